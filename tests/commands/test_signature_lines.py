from edgeport.commands.signature_lines import signature_lines, titled_signature
from edgeport.runtimes import Range, Signature, TensorSpec

X = TensorSpec("x", "float32", ("batch", 4))


def test_a_short_signature_stands_behind_its_title() -> None:
    signature = Signature((X,), (TensorSpec("y", "float32", ("batch", 1)),))
    assert titled_signature("m.edge", signature) == [
        "m.edge  x: float32[batch, 4] -> y: float32[batch, 1]"
    ]


def test_a_long_one_has_a_line_for_each_part_and_none_is_wide() -> None:
    names = [f"hidden_states_of_layer_{n}" for n in range(4)]
    outputs = tuple(TensorSpec(name, "float32", ("batch", 4)) for name in names)
    fields = [[name, {"output": name}] for name in names]
    structure = {"object": "Encoded", "fields": fields}
    signature = Signature((X,), outputs, {"batch": Range(1, 8)}, structure)
    assert titled_signature("m.edge", signature) == ["m.edge", *signature_lines(signature)]
    assert signature_lines(signature) == [
        "  in     x: float32[batch, 4]",
        *(f"  out    {name}: float32[batch, 4]" for name in names),
        "  where  batch in 1..8",
        "  as     Encoded(hidden_states_of_layer_0=hidden_states_of_layer_0,",
        "         hidden_states_of_layer_1=hidden_states_of_layer_1,",
        "         hidden_states_of_layer_2=hidden_states_of_layer_2,",
        "         hidden_states_of_layer_3=hidden_states_of_layer_3)",
    ]


def test_of_many_inputs_the_first_and_the_last_are_told() -> None:
    columns = tuple(TensorSpec(f"c{n}", "float32", ("batch",)) for n in range(3000))
    told = signature_lines(Signature(columns, (X,)))
    assert told[37:] == [
        "  in     c37: float32[batch]",
        "  in     ... 2,961 more ...",
        "  in     c2999: float32[batch]",
        "  out    x: float32[batch, 4]",
    ]
