"""Lines of fields, mistakes in the text, comments."""

from builder.validate import Target
from builder.validate.textproto import ParsedConfig, parse


def read(text: str | bytes) -> ParsedConfig:
    return parse(text.encode() if isinstance(text, str) else text, Target())


def kinds(text: str | bytes) -> list[tuple[str, str, int]]:
    return [(p.kind, p.field, p.line) for p in read(text).problems]


def test_every_field_has_its_line() -> None:
    parsed = read(
        'name: "a"\n'
        "input [\n"
        '  { name: "x"\n'
        "    dims: [ 1,\n"
        "            2 ] },\n"
        '  { name: "y" }\n'
        "]\n"
        'parameters { key: "k"\n'
        '  value { string_value: "v" } }\n'
        "dynamic_batching <\n"
        "  preferred_batch_size: 4\n"
        "  preferred_batch_size: 8 >\n"
    )
    assert parsed.problems == []
    assert parsed.line("name") == 1
    assert parsed.line("input[0].name") == 3
    assert parsed.line("input[0].dims[1]") == 5
    assert parsed.line("input[1].name") == 6
    assert parsed.line('parameters["k"]') == 8
    assert parsed.line('parameters["k"].string_value') == 9
    assert parsed.line("dynamic_batching.preferred_batch_size[1]") == 12


def test_a_field_that_is_not_there_has_the_line_of_what_is_around_it() -> None:
    parsed = read('name: "a"\n\ninput {\n  name: "x" }')
    assert parsed.line("input[0].dims") == 3
    assert parsed.line("input[0].reshape.shape[2]") == 3
    assert parsed.line("max_batch_size") == 1
    assert parsed.line("") == 1


def test_all_mistakes_are_found_at_once() -> None:
    text = (
        "foo: 1\n"
        "inputs { a { b: [ 1, { c: 2 } ] } }\n"
        'input { name: "a" name: "b"\n'
        "  data_type: FP32 }\n"
        "dynamic_batching { } sequence_batching { }\n"
    )
    assert kinds(text) == [
        ("unknown-field", "foo", 1),
        ("unknown-field", "inputs", 2),
        ("repeated", "input[0].name", 3),
        ("enum", "input[0].data_type", 4),
        ("repeated", "sequence_batching", 5),
    ]


def test_a_near_name_is_offered() -> None:
    assert read("max_batchsize: 4").problems[0].mend == "write 'max_batch_size'"
    assert "TYPE_FP32" in read("input { data_type: FP32 }").problems[0].mend


def test_fields_of_a_later_release() -> None:
    text = b"model_metrics { }"
    assert [p.kind for p in parse(text, Target(release="24.10")).problems] == ["newer-field"]
    later = parse(text, Target(release="24.11"))
    assert later.message is not None
    assert later.message.HasField("model_metrics")


def test_other_mistakes_have_the_parsers_words_and_line() -> None:
    problem = read("max_batch_size: 4\nmax_batch_size\n").problems[-1]
    assert (problem.kind, problem.line) == ("repeated", 2)
    problem = read('name: "a"\n}').problems[0]
    assert (problem.kind, problem.line) == ("syntax", 2)


def test_what_the_library_lets_pass_and_triton_does_not() -> None:
    assert kinds(r'name: "\q"')[0][0] == "escape"
    assert kinds(r'name: "\x4a\101\n\u00fc\\"') == []
    assert kinds("max_batch_size: +4")[0][0] == "number"


def test_comments() -> None:
    parsed = read("# alone\nmax_batch_size: 4 # behind\n")
    assert [(c.line, c.text, c.alone) for c in parsed.comments] == [
        (1, "alone", True),
        (2, "behind", False),
    ]


def test_nesting_costs_no_stack() -> None:
    for opener in ("{", "<", "["):
        assert read("input " + opener * 300_000).message is None
        assert read("a: " + opener * 300_000).problems[0].kind == "unknown-field"
        assert read("input { a " + opener * 300_000).message is None


def test_junk() -> None:
    for junk in (b"\xff\xfe\x00", b"\x00" * 1000, b'"', b"'", b"#", b"\n", b"{", b"[", b":::"):
        read(junk)
    assert read(b"").message is not None
    assert read(b"# \xff\n").message is not None
