"""Mutants of folders, versions and the text of `config.pbtxt`."""

import re
from random import Random

from google.protobuf import text_format

from .mutant import Files, Mutant, Section, base, text

_FOLDERS = ["1", "2", "3", "10", "0", "01", "-1", "v1", "1-old", "warmup", "initial_state"]
_FOLDERS += ["configs", "data", " 4", "+5", "7.5", "0x1"]
_LINKS: list[Files] = [
    {"4": "1"},
    {"gone": "nowhere"},
    {"5": "nowhere"},
    {"loop": "loop"},
    {"notes": "config.pbtxt"},
    {"1/gone": "nowhere"},
    {"6": "../step_fp32/1"},
]
"""All of them inside the repository."""


def _layout(rng: Random) -> Mutant:
    config = base(rng)
    folders = rng.sample(_FOLDERS, rng.randint(0, 3))
    if rng.random() < 0.6:
        folders.append("1")
    if rng.random() < 0.005:
        folders.append("99999999999999999999")  # kills the server, which takes seconds
    policy = rng.choice(["", "", "latest", "all", "specific"])
    if policy == "latest":
        config.version_policy.latest.num_versions = rng.choice([0, 1, 2, 5, 5])
    elif policy == "all":
        config.version_policy.all.SetInParent()
    elif policy == "specific":
        config.version_policy.specific.versions.extend(
            rng.choice([1, 1, 2, 3, 0, -1, 9]) for _ in range(rng.randint(0, 3))
        )
    config.name = rng.choices(["", "@", "another", "@x"], [8, 5, 1, 1])[0]
    files: Files = dict.fromkeys(folders)
    if rng.random() < 0.1:
        files["2"] = b"a file called like a version"
    if rng.random() < 0.15:
        files.update(rng.choice(_LINKS))
    if rng.random() < 0.03:
        files["config.pbtxt"] = None
        return Mutant("directory and version layout", files)
    if rng.random() > 0.03:
        files["config.pbtxt"] = text(config)
    return Mutant("directory and version layout", files)


_SNIPPETS = [
    "name: 'a' 'b'",
    'backend: "nu" "ll"',
    "max_batch_size: 0x4",
    "max_batch_size: 04",
    "max_batch_size: 08",
    "max_batch_size: 4.0",
    "max_batch_size: - 4",
    "max_batch_size: +4",
    "max_batch_size: 4;",
    "max_batch_size: 4,",
    "max_batch_size: 4,,",
    "max_batch_size 4",
    "max_batch_size: [4]",
    "max_batch_size: 2147483648",
    'max_batch_size: "4"',
    "max_batch_size: 4 # comment",
    "# \xff not UTF-8",
    "response_cache { enable: true }",
    "response_cache { enable: True }",
    "response_cache { enable: t }",
    "response_cache { enable: 1 }",
    "response_cache { enable: 2 }",
    "response_cache { enable: TRUE }",
    "response_cache: { enable: false }",
    "response_cache < enable: false >",
    "response_cache { enable: false >",
    "response_cache: [ { enable: false } ]",
    "response_cache { }",
    "response_cache {",
    "response_cache { } response_cache { }",
    "response_cache { enable: true enable: true }",
    "dynamic_batching { } dynamic_batching { }",
    "dynamic_batching { } sequence_batching { }",
    "dynamic_batching { preferred_batch_size: [ 1 ] }",
    "dynamic_batching { preferred_batch_size: [ 1, ] }",
    "dynamic_batching { preferred_batch_size: [ ] }",
    "dynamic_batching { preferred_batch_size: 1 preferred_batch_size: 1 }",
    "dynamic_batching { max_queue_delay_microseconds: -1 }",
    "dynamic_batching { max_queue_delay_microseconds: 18446744073709551615 }",
    "dynamic_batching { max_queue_delay_microseconds: 18446744073709551616 }",
    "sequence_batching { direct { minimum_slot_utilization: .5 } }",
    "sequence_batching { direct { minimum_slot_utilization: 5e-1f } }",
    "sequence_batching { direct { minimum_slot_utilization: 1 } }",
    "sequence_batching { direct { minimum_slot_utilization: inf } }",
    "sequence_batching { direct { minimum_slot_utilization: nan } }",
    "sequence_batching { direct { minimum_slot_utilization: 1e999 } }",
    "sequence_batching { direct { } oldest { } }",
    "sequence_batching { control_input [ { name: 'c' }, { name: 'd' } ] }",
    "sequence_batching { control_input [ ] }",
    "instance_group [ { count: 1 kind: KIND_CPU } ]",
    "instance_group [ { count: 1 kind: KIND_CPU }, { kind: KIND_MODEL } ]",
    "instance_group [ { count: 1 kind: KIND_CPU } { kind: KIND_MODEL } ]",
    "instance_group [ { count: 1 kind: KIND_TPU } ]",
    "instance_group { kind: 2 }",
    "instance_group { kind: -1 }",
    'instance_group { kind: "KIND_CPU" }',
    "instance_group { kind: kind_cpu }",
    'parameters { key: "a" value { string_value: "b" } }',
    'parameters { key: "a" value: { string_value: "b" } }',
    'parameters { key: "a" } parameters { key: "a" }',
    'parameters { value { string_value: "b" } }',
    "parameters { }",
    'parameters { key: "a" key: "b" }',
    'parameters: { "a": "b" }',
    r'parameters { key: "\x41\101\n\"\'\\" }',
    r'parameters { key: "\q" }',
    r'parameters { key: "\u00fc" }',
    'parameters { key: "unterminated }',
    "parameters { key: 'a\nb' }",
    'metric_tags { key: "k" value: "v" }',
    'metric_tags [ { key: "k" value: "v" }, { key: "l" value: "w" } ]',
    "model_metrics { }",
    "model_metrics { metric_control { metric_identifier { family: 'f' } } }",
    "unknown: 1",
    "unknown { a: 1 }",
    "inputs { name: 'x' }",
    "[some.extension]: 1",
    "[type.googleapis.com/inference.ModelConfig] { }",
    "runtime: ''",
    "version_policy { all { } }",
    "version_policy { all { } latest { num_versions: 1 } }",
    "version_policy: { specific: { versions: [1, 2] } }",
    "version_policy { specific { versions: [1 2] } }",
    "input { name: 'x' data_type: TYPE_FP32 dims: [ 1, 2 ] }",
    "input { name: 'x' data_type: TYPE_FLOAT dims: [ 1 ] }",
    "input { name: 'x' data_type: FP32 dims: [ 1 ] }",
    "input { name: 'x', data_type: TYPE_FP32; dims: 1, dims: 2 }",
    "input { name: 'x' data_type: TYPE_FP32 dims: [ 1.5 ] }",
    "input { name: 'x' data_type: TYPE_FP32 dims: [ -1 ] reshape { shape: [ -1, 1 ] } }",
    "input { name: 'x' data_type: 11 dims: [ 1 ] }",
    "input [ { name: 'x' data_type: TYPE_FP32 dims: [ 1 ] }, ]",
    "input: [ { name: 'x' data_type: TYPE_FP32 dims: [ 1 ] } ]",
    "}",
    "{",
    "]",
    ":",
    "\x00",
    "\x01",
    "\t\v\f\r",
    "/* no comment */",
    "// no comment",
    "ensemble_scheduling { max_inflight_requests: 3 }",
    "default_model_filename: 'x' # \u00fc",
]

_TOKEN = re.compile(r'"[^"]*"|[A-Za-z_]\w*|-?\d+|\s+|.', re.DOTALL)


def _text(rng: Random) -> Mutant:
    config = base(rng)
    if rng.random() < 0.5:
        config.dynamic_batching.max_queue_delay_microseconds = 5
    written = text_format.MessageToString(config, as_one_line=rng.random() < 0.3)
    if rng.random() < 0.6:
        name = rng.choice(_SNIPPETS)
        field = re.split(r"\W", name, maxsplit=1)[0]
        if field in ("backend", "max_batch_size") and rng.random() < 0.9:
            written = re.sub(rf"^{field}: \S+$", "", written, flags=re.MULTILINE)
        content = rng.choice([f"{written}\n{name}\n", f"{name}\n{written}"])
    else:
        tokens = _TOKEN.findall(written)
        for _ in range(rng.choice([1, 1, 2])):
            _mutate(rng, tokens)
        content = "".join(tokens)
    return Mutant("text proto", {"config.pbtxt": content.encode("latin-1", "replace"), "1": None})


def _mutate(rng: Random, tokens: list[str]) -> None:
    index = rng.randrange(len(tokens))
    action = rng.randrange(6)
    if action == 0:
        del tokens[index]
    elif action == 1:
        tokens.insert(index, rng.choice(tokens))
    elif action == 2:
        tokens[index] = rng.choice(tokens)
    elif action == 3:
        other = rng.randrange(len(tokens))
        tokens[index], tokens[other] = tokens[other], tokens[index]
    elif action == 4:
        tokens.insert(index, rng.choice([" ", "\n", "# c\n", ",", ";", "-", "0", '"', "{", "}"]))
    else:
        token = tokens[index]
        cut = rng.randrange(len(token) + 1)
        tokens[index] = token[:cut] + rng.choice(["", "x", "_", "7", " "]) + token[cut + 1 :]
    if not tokens:
        tokens.append(" ")


SECTIONS = [
    Section("directory and version layout", _layout, weight=2),
    Section("text proto", _text, weight=3),
]
