#!/usr/bin/env python3
"""Writes the checkpoints of this folder, each of which must be refused, and `sound`, which must not.

python3 make.py: overwrites them; the same every time. A folder's `expected` names the file that is at fault.
"""
import json, os, shutil, struct

here = os.path.dirname(os.path.abspath(__file__))
config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q"]}
A, B = "base_model.model.m.q.lora_A.weight", "base_model.model.m.q.lora_B.weight"
tensors = {A: [2, 5], B: [3, 2]}


def size(shape):
    n = 4
    for e in shape:
        n *= e
    return n


def header_of(shapes, change=None):
    at, header = 0, {}
    for name, shape in shapes.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size(shape)]}
        at += size(shape)
    if change:
        change(header)
    return json.dumps(header).encode(), bytes(at)


def file_of(header, data, length=None):
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def sound_file(shapes=None, change=None):
    return file_of(*header_of(shapes or tensors, change))


def save(name, at_fault, text=None, data=None):
    folder = os.path.join(here, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    if text is None:
        text = json.dumps(config).encode()
    if data is None:
        data = sound_file()
    for file, content in (("adapter_config.json", text), ("adapter_model.safetensors", data)):
        if content is False:
            continue
        if content == "folder":
            os.makedirs(os.path.join(folder, file))
            open(os.path.join(folder, file, "kept"), "w").close()
            continue
        with open(os.path.join(folder, file), "wb") as f:
            f.write(content)
    with open(os.path.join(folder, "expected"), "w") as f:
        f.write(at_fault + "\n")


C, T = "adapter_config.json", "adapter_model.safetensors"


def settings(**more):
    return json.dumps({**config, **more}).encode()


def entry(field, value):
    def change(header):
        header[A][field] = value

    return sound_file(change=change)


save("sound", "")
# The configuration.
save("config_missing", C, text=False)
save("config_empty", C, text=b"")
save("config_is_a_folder", C, text="folder")
save("config_not_json", C, text=b"{\"peft_type\": \"LORA\",")
save("config_not_utf8", C, text=b"{\"peft_type\": \"LORA\", \"x\": \"\xff\xfe\"}")
save("config_zero_byte", C, text=b"{\"peft_type\": \"LORA\"}\0{}")
save("config_keys_twice", C, text=b"{\"peft_type\": \"LORA\", \"r\": 2, \"r\": 3}")
save("config_deep", C, text=b"{\"peft_type\": \"LORA\", \"x\": " + b"[" * 5000 + b"]" * 5000 + b"}")
save("config_huge_number", C, text=b"{\"peft_type\": \"LORA\", \"lora_alpha\": 1e999}")
save("config_nan", C, text=b"{\"peft_type\": \"LORA\", \"lora_alpha\": NaN}")
save("config_rank_text", C, text=settings(r="2"))
save("config_rank_huge", C, text=settings(r=2**63))
save("config_rank_zero", C, text=settings(r=0))
save("config_bad_pattern", C, text=settings(target_modules="(a+"))
save("config_back_reference", C, text=settings(target_modules="(a)\\1"))
save("config_unknown_type", C, text=settings(peft_type="\x1b[2J"))
save("config_rank_pattern", C, text=settings(rank_pattern={"q": -1}))
save("config_rank_fraction", C, text=settings(r=2.5))
save("config_rank_beyond_64_bits", C, text=settings(r=2**64))
save("config_is_a_list", C, text=b"[" + json.dumps(config).encode() + b"]")
save("config_more_behind_it", C, text=json.dumps(config).encode() + b" {}")
save("config_switch_as_text", C, text=settings(use_rslora="false"))
save("config_targets_as_number", C, text=settings(target_modules=7))
save("config_target_not_text", C, text=settings(target_modules=["q", None]))
save("config_layer_as_text", C, text=settings(layers_to_transform=["0"]))
save("config_pattern_too_long", C, text=settings(target_modules="a" * 10001))
save("config_pattern_too_deep", C, text=settings(target_modules="(" * 300 + "q" + ")" * 300))
save("config_pattern_counts", C, text=settings(target_modules="(a{1,9999}){1,9999}"))
save("vera_key_negative", C, text=b"{\"peft_type\": \"VERA\", \"r\": 2, \"projection_prng_key\": -1}")
# The tensors' file.
save("file_missing", T, data=False)
save("file_empty", T, data=b"")
save("file_is_a_folder", T, data="folder")
save("file_short", T, data=b"1234567")
header, data = header_of(tensors)
save("header_longer_than_file", T, data=file_of(header, data, 1 << 20))
save("header_length_overflows", T, data=file_of(header, data, 2**64 - 1))
save("header_cut", T, data=file_of(header, data)[:40])
save("data_cut", T, data=file_of(header, data)[:-1])
save("data_more", T, data=file_of(header, data) + b"x")
save("header_not_json", T, data=file_of(header[:-1], data))
save("header_name_twice", T, data=file_of(header.replace(b"lora_B", b"lora_A"), data))
save("header_not_utf8", T, data=file_of(header.replace(b"m.q", b"m\xff\xfe"), data))
save("name_with_control_characters", T, data=file_of(header.replace(b"lora_B.weight", b"lora_B.bias\\u001b[2J\\u0000"), data))
save("dtype_unknown", T, data=entry("dtype", "F8_E4M3"))
save("dtype_number", T, data=entry("dtype", 7))
save("offsets_negative", T, data=entry("data_offsets", [-4, 36]))
save("offsets_reversed", T, data=entry("data_offsets", [40, 0]))
save("offsets_overlap", T, data=entry("data_offsets", [24, 64]))
save("offsets_hole", T, data=sound_file(change=lambda h: h[B].update(data_offsets=[44, 68])) + bytes(4))
save("offsets_overflow", T, data=entry("data_offsets", [2**63 - 1, 2**64 - 1]))
save("shape_overflows", T, data=entry("shape", [2**32, 2**32]))
save("shape_negative", T, data=entry("shape", [-2, 5]))
save("shape_fraction", T, data=entry("shape", [2.5, 4]))
save("shape_of_other_size", T, data=entry("shape", [2, 6]))
save("shape_of_33_dimensions", T, data=entry("shape", [2, 5] + [1] * 31))
save("shape_beyond_64_bits", T, data=entry("shape", [2**64, 5]))
save("entry_of_four_keys", T, data=entry("strides", [5, 1]))
save("entry_is_a_number", T, data=sound_file(change=lambda h: h.update({A: 7})))
save("offsets_three", T, data=entry("data_offsets", [0, 40, 40]))
save("metadata_not_text", T, data=sound_file(change=lambda h: h.update(__metadata__={"format": 1})))
save("header_no_bytes", T, data=file_of(b"", b""))
save("header_is_a_list", T, data=file_of(b"[" + header + b"]", data))
save("header_deep", T, data=file_of(b"{\"a\":" + b"[" * 100000, data))
save("header_zero_byte", T, data=file_of(header + b"\0", data))
# Tensors that contradict each other or the configuration.
save("a_without_b", T, data=sound_file({A: [2, 5]}))
save("b_without_a", T, data=sound_file({B: [3, 2]}))
save("rank_of_b", T, data=sound_file({A: [2, 5], B: [3, 4]}))
save("rank_of_configuration", T, text=settings(r=3))
save("rank_of_configuration_largest", T, text=settings(r=2**63 - 1))
# Backtracking would take longer than the sun has left. It matches, and says another rank than the file has.
a = "base_model.model." + "a" * 3000 + "b.lora_"
save("rank_of_endless_pattern", T, text=settings(rank_pattern={"(a+)+c": 5, "(a|aa)+$": 5, "(a+)+b": 3}),
     data=sound_file({a + "A.weight": [2, 5], a + "B.weight": [3, 2]}))
save("types_differ", T, data=sound_file(change=lambda h: (
    h[A].update(dtype="F32"), h[B].update(dtype="BF16", shape=[6, 2]))))
save("rank_zero", T, data=sound_file({A: [0, 5], B: [3, 0]}))
save("bias_not_announced", T, data=sound_file({**tensors, "base_model.model.m.q.lora_B.bias": [3]}))
G = "base_model.model.m.q.lora_magnitude_vector"
save("dora_without_magnitude", T, text=settings(use_dora=True))
save("dora_magnitude_not_announced", T, data=sound_file({**tensors, G: [3]}))
save("dora_magnitude_length", T, text=settings(use_dora=True), data=sound_file({**tensors, G: [4]}))
E = "base_model.model.m.e.lora_embedding_"
save("embedding_without_b", T, data=sound_file({E + "A": [2, 7]}))
X = "base_model.model.m.experts.lora_"
experts = settings(target_parameters=["experts.w"])
save("experts_not_divided", T, text=experts, data=sound_file({X + "A.weight": [5, 4], X + "B.weight": [3, 5]}))
save("experts_of_other_size", T, text=experts, data=sound_file({X + "A.weight": [6, 4], X + "B.weight": [3, 4]}))
vera = json.dumps({"peft_type": "VERA", "r": 2, "target_modules": ["q"]}).encode()
L = "base_model.model.m.q.vera_lambda_"
stored = {"base_model.vera_A": [2, 5], "base_model.vera_B": [2, 2]}
save("vera_without_projections", T, text=vera, data=sound_file({L + "d": [2], L + "b": [3]}))
save("vera_projections_too_small", T, text=vera, data=sound_file({**stored, L + "d": [2], L + "b": [3]}))
save("vera_one_lambda", T, text=vera, data=sound_file({**stored, L + "d": [2]}))
save("vera_rank", T, text=vera, data=sound_file({**stored, L + "d": [3], L + "b": [2]}))
# Types beside LORA and VERA: `kind` is a configuration, q_ a tensor of the module m.q.


def kind(type, **more):
    return json.dumps({"peft_type": type, "peft_version": "0.21.2", "target_modules": ["q"], **more}).encode()


def q_(**shapes):
    return sound_file({"base_model.model.m.q." + name.replace("__", "."): shape for name, shape in shapes.items()})


large = 2**62
save("boft_both_sizes", C, text=kind("BOFT", boft_block_size=2, boft_block_num=4), data=q_(boft_R=[1, 4, 2, 2], boft_s=[3, 1]))
save("boft_neither_size", C, text=kind("BOFT", boft_block_size=0), data=q_(boft_R=[1, 4, 2, 2], boft_s=[3, 1]))
save("boft_factors_beyond_64_bits", C, text=kind("BOFT", boft_n_butterfly_factor=2**64), data=q_(boft_R=[1, 2, 4, 4], boft_s=[3, 1]))
save("boft_without_scales", T, text=kind("BOFT"), data=q_(boft_R=[1, 2, 4, 4]))
save("boft_not_square", T, text=kind("BOFT"), data=q_(boft_R=[1, 2, 4, 5], boft_s=[3, 1]))
save("boft_one_factor", T, text=kind("BOFT", boft_n_butterfly_factor=2), data=q_(boft_R=[1, 2, 4, 4], boft_s=[3, 1]))
save("boft_factors", T, text=kind("BOFT", boft_block_size=2, boft_n_butterfly_factor=70), data=q_(boft_R=[70, 1, 2, 2], boft_s=[3, 1]))
save("boft_factors_not_fitting", T, text=kind("BOFT", boft_block_size=2, boft_n_butterfly_factor=40), data=q_(boft_R=[40, 1, 2, 2], boft_s=[3, 1]))
save("boft_blocks_of_nothing", T, text=kind("BOFT", boft_block_size=0, boft_block_num=large), data=q_(boft_R=[1, large, 0, 0], boft_s=[3, 1]))
save("boft_scales_as_matrix", T, text=kind("BOFT"), data=q_(boft_R=[1, 2, 4, 4], boft_s=[3, 2]))
save("oft_both_sizes", C, text=kind("OFT", oft_block_size=3, r=2), data=q_(oft_R__weight=[2, 3]))
save("oft_neither_size", C, text=kind("OFT", oft_block_size=0, r=0), data=q_(oft_R__weight=[2, 3]))
save("oft_without_block_size", C, text=kind("OFT", r=2), data=q_(oft_R__weight=[2, 3]))
save("oft_old_series", C, text=kind("OFT", oft_block_size=3, peft_version="0.17.1"), data=q_(oft_R__weight=[2, 3]))
save("oft_version_with_control_characters", C, text=kind("OFT", oft_block_size=3, peft_version="\x1b[2J"), data=q_(oft_R__weight=[2, 3]))
save("oft_terms", C, text=kind("OFT", oft_block_size=3, num_cayley_neumann_terms=2**63 - 1), data=q_(oft_R__weight=[2, 3]))
save("oft_eps_negative", C, text=kind("OFT", oft_block_size=3, coft=True, eps=-1), data=q_(oft_R__weight=[2, 3]))
save("oft_old_tensors", T, text=kind("OFT", oft_block_size=3), data=q_(oft_r=[2, 3, 3], oft_s=[3, 1]))
save("oft_no_triangle", T, text=kind("OFT", oft_block_size=3), data=q_(oft_R__weight=[2, 4]))
save("oft_other_block_size", T, text=kind("OFT", oft_block_size=4), data=q_(oft_R__weight=[4, 3]))
save("oft_block_size_huge", T, text=kind("OFT", oft_block_size=2**63 - 1), data=q_(oft_R__weight=[2, 3]))
save("oft_rows_of_nothing", T, text=kind("OFT", oft_block_size=1), data=q_(oft_R__weight=[large, 0]))
# Limiting them one by one would take a quarter of an hour.
save("oft_rows_of_nothing_limited", T, text=kind("OFT", oft_block_size=1, coft=True), data=q_(oft_R__weight=[2**40, 0]))
save("oft_columns_of_nothing", T, text=kind("OFT", oft_block_size=3), data=q_(oft_R__weight=[0, large]))
save("oft_shared_rows", T, text=kind("OFT", oft_block_size=3, block_share=True), data=q_(oft_R__weight=[2, 3]))
save("hra_rank", T, text=kind("HRA", r=3), data=q_(hra_u=[5, 2]))
save("hra_nothing", T, text=kind("HRA", r=large), data=q_(hra_u=[0, large]))
save("hra_more_than_orthonormal", T, text=kind("HRA", r=6, apply_GS=True), data=q_(hra_u=[5, 6]))
save("ia3_feedforward_not_targeted", C, text=kind("IA3", feedforward_modules=["down"]), data=q_(ia3_l=[3, 1]))
save("ia3_feedforward_pattern", C, text=kind("IA3", feedforward_modules="(a+"), data=q_(ia3_l=[3, 1]))
save("ia3_row", T, text=kind("IA3"), data=q_(ia3_l=[1, 3]))
save("ia3_column_of_feedforward", T, text=kind("IA3", feedforward_modules=["q"]), data=q_(ia3_l=[3, 1]))
save("ln_tuning_bias_alone", T, text=kind("LN_TUNING"), data=q_(ln_tuning_layers__bias=[4]))
save("ln_tuning_bias_length", T, text=kind("LN_TUNING"), data=q_(ln_tuning_layers__weight=[4], ln_tuning_layers__bias=[5]))
save("ln_tuning_saved_too", T, text=kind("LN_TUNING", target_modules=["norm"], modules_to_save=["orm"]),
     data=sound_file({"base_model.model.m.norm.ln_tuning_layers.weight": [4], "base_model.model.m.norm.weight": [4]}))
