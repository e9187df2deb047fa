"""Chat templates are rendered as transformers renders them, and can do no harm."""

import json

import pytest

from builder.runtime.models.generate.chat import ChatError, ChatTemplate
from examples.tiny.make_checkpoint import make_tokenizer

CONVERSATION = [
    {"role": "system", "content": " ä <b> "},
    {"role": "user", "content": "x\n", "extra": {"b": 1, "a": [None, 2.5]}},
]


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}\n  {{ m['role'] }}: {{ m.content | trim }}\n{% endfor %}",
        "{{ bos_token }}{% for m in messages %}{{ m | tojson(indent=2) }}{% endfor %}",
        "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.content }}"
        "{% endfor %}{% if add_generation_prompt %}GO{% endif %}",
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}"
        "{% endfor %}{{ ns.n }} {{ tools is none }} {{ strftime_now('%') }}",
    ],
)
def test_templates_are_rendered_as_transformers_renders_them(template: str) -> None:
    tokenizer = make_tokenizer(512)
    tokenizer.bos_token = "<|im_start|>"
    wanted = tokenizer.apply_chat_template(
        CONVERSATION, chat_template=template, tokenize=False, add_generation_prompt=True
    )
    special = {k: v for k, v in tokenizer.special_tokens_map.items() if isinstance(v, str)}
    assert ChatTemplate(template, special).render(json.dumps(CONVERSATION)) == wanted


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ messages.append({}) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ messages[0].content.foo.bar }}",
        "{{ 'x' * 10 ** 100 }}",
        "{{ raise_exception('no such role') }}",
    ],
)
def test_templates_can_do_no_harm(template: str) -> None:
    with pytest.raises(ChatError, match="MESSAGES does not suit the chat template"):
        ChatTemplate(template, {}).render(json.dumps(CONVERSATION))
