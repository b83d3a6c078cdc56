"""The parts of ./dev bench peers and ./dev bench page that need no PyTorch. Standard library only."""

import copy
import json
import re
import sys
import tempfile
import unittest
import xml.etree.ElementTree
from pathlib import Path
from unittest import mock

import report
import rows
import sampling
from sampling import Candidate, Sample

LIMITS = {
    "fma_flops": 100e9,
    "bf16_dot_flops": 0.0,
    "fork_join_us": 0.5,
    "vector_bits": 512,
    "bytes_per_second": {
        level: {"read": speed, "update": 1.5 * speed, "copy": 0.5 * speed}
        for level, speed in (("L1", 400e9), ("L2", 200e9), ("L3", 50e9), ("DRAM", 10e9))
    },
}
CACHES = {"L1": 48 << 10, "L2": 1 << 20, "L3": 32 << 20}


def found_row(row, ours, ratio, ratio_q25=None):
    limit_us, limit_by = rows.limit(row, LIMITS, CACHES)
    entry = {"median_us": ours, "q10_us": ours, "clean": 9, "taken": 9, "ratio": 1.0, "ratio_q25": 1.0, "rounds": 9}
    return {
        "operation": row.operation,
        "shape": row.shape,
        "sizes": row.sizes,
        "dtype": row.dtype,
        "threads": row.threads,
        "cold": row.cold,
        "ours_us": ours,
        "peer_us": 3 * ours,
        "best_peer_us": ratio * ours,
        "ratio": ratio,
        "ratio_q25": ratio_q25 or 0.97 * ratio,
        "peer_ratio": 3.0,
        "limit_us": limit_us,
        "limit_by": limit_by,
        "limit_fraction": limit_us / ours,
        "clean_samples": 9,
        "contended": False,
        "ours": "graft",
        "peer": "as written",
        "best_peer": "best",
        "flops": row.flops,
        "bytes_read": row.read,
        "bytes_written": row.written,
        "goal_ratio": row.goal.ratio,
        "goal_peer_ratio": row.goal.peer_ratio,
        "goal_fraction": row.goal.fraction,
        "notes": [],
        "candidates": {
            "graft": {"column": "ours", **entry},
            "best": {"column": "best", **entry, "q10_us": ratio * ours, "median_us": ratio * ours},
        },
    }


def file_of(found):
    return {
        "machine": {
            "processor": "A Processor (vendor family 1)",
            "processors": 2,
            "torch": "9.9.9+cpu",
            "peft": "0.0",
            "date": "2000-01-01",
            "flags": ["avx2"],
        },
        "limits": {str(t): {"start": LIMITS, "end": LIMITS, "used": LIMITS} for t in (1, 2)},
        "rows": found,
    }


def tiny():
    table = rows.rows((1,))
    found = [found_row(r, 10.0 + i, 2.0 if r.operation != "combine" else 0.9) for i, r in enumerate(table)]
    return file_of(found)


class Numbers(unittest.TestCase):
    def test_quantiles_are_linear_between_order_statistics(self):
        values = [4.0, 1.0, 3.0, 2.0]
        self.assertEqual([sampling.quantile(values, q) for q in (0, 0.1, 0.25, 0.5, 1)], [1.0, 1.3, 1.75, 2.5, 4.0])
        self.assertEqual(sampling.quantile([7.0], 0.25), 7.0)
        with self.assertRaises(ValueError):
            sampling.quantile([], 0.5)

    def test_samples_that_were_interrupted_do_not_count(self):
        samples = [Sample(1, 0), Sample(100, 1), None, Sample(3, 0), Sample(2, 0), Sample(4, 0)]
        self.assertEqual(sampling.clean(samples), [1, 3, 2, 4])
        self.assertEqual(sampling.summary(samples), {"q10_us": 1.3, "median_us": 2.5, "clean": 4, "taken": 5})

    def test_fewer_than_four_clean_samples_are_no_result(self):
        samples = [Sample(1, 0)] * 3 + [Sample(1, 2)] * 20
        self.assertEqual(sampling.summary(samples), {"q10_us": None, "median_us": None, "clean": 3, "taken": 23})
        self.assertEqual(sampling.ratio_of(samples, samples)["ratio"], None)

    def test_ratios_are_of_rounds_in_which_both_are_clean(self):
        ours = [Sample(1, 0), Sample(2, 0), Sample(1, 1), Sample(4, 0), Sample(5, 0), None, Sample(10, 0)]
        theirs = [Sample(3, 0), Sample(2, 0), Sample(9, 0), Sample(8, 1), Sample(10, 0), Sample(1, 0), Sample(15, 0)]
        self.assertEqual(sampling.ratios(ours, theirs), [3, 1, 2, 1.5])
        self.assertEqual(sampling.ratio_of(ours, theirs), {"ratio": 1.75, "ratio_q25": 1.375, "rounds": 4})

    def test_a_sample_of_whole_seconds_may_be_interrupted_in_each_of_them(self):
        for lasted, switches, counted in (
            (10**6, 1, 1),
            (999_999_999, 1, 1),
            (10**9, 5, 0),
            (3 * 10**9, 15, 0),
            (3 * 10**9, 16, 1),
            (3 * 10**9, 0, 0),
        ):
            with mock.patch.object(sampling, "switches", side_effect=[5, 5 + switches]), mock.patch.object(
                sampling.time, "perf_counter_ns", side_effect=[7, 7 + lasted]
            ):
                sample = sampling.take(Candidate("c", "ours", lambda count: None, None), 2)
            self.assertEqual((sample.us, sample.switches), (lasted / 2e3, counted))


class Rounds(unittest.TestCase):
    def measured(self, turns_of=None, rounds=12, dirty=()):
        """measure() with a clock of its own: (samples, order of the timed calls, resets)."""
        order, resets = [], []

        def take(candidate, count, before=None):
            order.append(candidate.name)
            return Sample(1.0, 1 if candidate.name in dirty else 0)

        candidates = [Candidate(n, column, lambda count: None, None) for n, column in (("a", "ours"), ("b", "best"), ("c", "peer"))]
        speeds = {"a": 10.0, "b": 20.0, "c": (turns_of or 30.0)}
        with mock.patch.object(sampling, "take", take), mock.patch.object(sampling, "calibrate", lambda c: (3, speeds[c.name])):
            samples = sampling.measure(candidates, rounds, 1, reset=lambda: resets.append(len(order)))
        return samples, order, resets

    def test_every_round_has_each_candidate_once_in_an_order_of_its_own(self):
        samples, order, resets = self.measured()
        in_rounds = ["".join(order[i : i + 3]) for i in range(0, len(order), 3)]
        self.assertEqual(len(in_rounds), 12)
        self.assertTrue(all(sorted(r) == ["a", "b", "c"] for r in in_rounds))
        self.assertGreater(len(set(in_rounds)), 2)
        self.assertEqual(resets, list(range(0, 36, 3)))
        self.assertEqual({len(s) for s in samples.values()}, {12})

    def test_slow_candidates_take_part_in_some_rounds_spread_over_the_run(self):
        samples, _, _ = self.measured(turns_of=2e6)
        self.assertEqual([i for i, s in enumerate(samples["c"]) if s is not None], [0, 3, 6, 9])
        samples, _, _ = self.measured(turns_of=2e6, dirty=("c",))  # tried twice as often, and then no more
        self.assertEqual([i for i, s in enumerate(samples["c"]) if s is not None], [0, 3, 6, 9, 12, 13, 14, 15])
        self.assertEqual({len(s) for s in samples.values()}, {16})
        self.assertEqual(sampling.rounds_with(50e3, 40), 40)
        self.assertEqual(sampling.rounds_with(120e3, 40), 20)

    def test_rounds_are_added_while_too_few_are_clean_but_not_for_ever(self):
        self.assertEqual(len(self.measured(dirty=("a",))[0]["a"]), 36)
        self.assertEqual(len(self.measured(dirty=("c",))[0]["a"]), 12)  # the peer as written decides nothing


class Table(unittest.TestCase):
    def test_every_row_that_was_asked_for_is_there(self):
        names = {
            (r.operation, r.dtype, r.threads, *(f"{k}={v}" for k, v in r.sizes.items() if k in ("T", "r", "E", "k", "b", "D")))
            for r in rows.rows((1, 2), every_thread_count=False)
        }
        for threads in (1, 2):
            for dtype in ("fp32", "bf16"):
                for T in (1, 8, 64, 512):
                    self.assertIn(("lora", dtype, threads, f"T={T}", "r=16"), names)
        for name in [
            ("lora", "fp32", 1, "T=8", "r=64"),
            ("lora", "fp32", 1, "T=512", "r=64"),
            ("lora_backward", "fp32", 1, "T=512", "r=16"),
            ("merge", "fp32", 1, "r=16"),
            ("dora_norm", "fp32", 1, "r=16"),
            ("dora_forward", "fp32", 1, "T=8", "r=16"),
            ("vera", "fp32", 1, "T=8", "r=256"),
            ("vera", "fp32", 1, "T=512", "r=256"),
            ("oft_rotate", "fp32", 1, "T=8", "b=32"),
            ("oft_rotate", "fp32", 1, "T=512", "b=32"),
            ("boft_forward", "fp32", 1, "T=512", "b=4"),
            ("cayley", "fp32", 1, "D=128", "b=32"),
            *[("gate", "fp32", 1, f"T={T}", f"E={E}", "k=2") for E in (8, 64, 256) for T in (64, 4096)],
            *[("gate", "fp32", 1, "T=4096", f"E={E}", "k=8") for E in (64, 256)],
            *[(o, "fp32", 1, f"T={T}", f"k={k}", f"E={E}") for o in ("dispatch", "combine") for T, k, E in ((4096, 8, 64), (512, 2, 8))],
        ]:
            self.assertIn(name, names)

    def test_the_limit_is_the_longer_of_flops_and_bytes_at_the_level_that_holds_them(self):
        row = rows.Row("x", {}, "fp32", 1, flops=1e6, read=1e6, written=0, held=1e6)
        self.assertEqual(rows.limit(row, LIMITS, CACHES), (10.0, "FMA"))
        self.assertEqual(rows.limit(rows.Row("x", {}, "fp32", 1, flops=1e5, read=1e6, written=0, held=1e6), LIMITS, CACHES), (5.0, "L2"))
        us, level = rows.limit(rows.Row("x", {}, "fp32", 1, flops=1e5, read=1e6, written=1e6, held=2e6), LIMITS, CACHES)
        self.assertEqual((round(us, 6), level), (round(2e6 / 75e9 * 1e6, 6), "L3"))
        us, level = rows.limit(rows.Row("x", {}, "fp32", 1, flops=1e5, read=1e6, written=1e5, held=2e6), LIMITS, CACHES)
        self.assertEqual((round(us, 6), level), (20.0, "L3"))  # updating in place moves more than reading, but not more of what is read
        self.assertEqual(rows.level_of(rows.Row("x", {}, "fp32", 2, 0, 1, 0, held=2e6), CACHES), "L2")  # half for each core
        self.assertEqual(rows.level_of(rows.Row("x", {}, "fp32", 1, 0, 1, 0, held=64e6), CACHES), "DRAM")
        self.assertEqual(rows.level_of(rows.Row("x", {}, "fp32", 1, 0, 1, 0, held=1e3, cold=True), CACHES), "DRAM")

    def test_documented_flops_of_lora(self):
        row = next(r for r in rows.rows((1,)) if r.operation == "lora" and r.sizes["T"] == 8 and r.dtype == "bf16")
        self.assertEqual((row.flops, row.read, row.written), (2 * 8 * 16 * 8192, 2 * (16 * 8192 + 2 * 8 * 4096), 2 * 8 * 4096))

    def test_goals_are_held_against_what_is_shown(self):
        self.assertEqual(
            [rows.reached(v, g) for v, g in ((1.096, 1.1), (1.094, 1.1), (29.6, 30), (29.4, 30), (None, 2), (2, None))],
            [True, False, True, False, None, None],
        )


class Report(unittest.TestCase):
    def test_a_file_that_lacks_something_is_refused(self):
        report.validate(tiny())
        for change, message in (
            (lambda d: d.pop("limits"), "'limits'"),
            (lambda d: d["rows"].clear(), "no rows"),
            (lambda d: d["rows"][3].pop("ratio"), "row 3 has no 'ratio'"),
            (lambda d: d["rows"][0].update(ours_us="1"), "'ours_us' is '1'"),
            (lambda d: d["rows"][0].update(threads=None), "'threads' is None"),
        ):
            data = tiny()
            change(data)
            with self.assertRaisesRegex(ValueError, re.escape(message)):
                report.validate(data)
        contended = tiny()
        contended["rows"][0].update(ratio=None, ratio_q25=None, best_peer_us=None)
        report.validate(contended)

    def generated(self, data, readme="# r\n\n<!-- performance: x -->\nold\n<!-- performance end -->\nend\n", old=None):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "README.md").write_text(readme)
            if old is not None:
                (root / "docs").mkdir()
                (root / "docs/performance.md").write_text(old)
            return {path.name: path.read_text() for path in report.generate(json.loads(json.dumps(data)), root)}

    def test_page_pictures_and_readme(self):
        data = tiny()
        data["rows"][0].update(ratio=None, ratio_q25=None, best_peer_us=None, ours_us=None, limit_fraction=None, contended=True)
        before = copy.deepcopy(data)
        files = self.generated(data)
        self.assertEqual(data, before)
        self.assertEqual(files, self.generated(data))  # the same bytes
        page = files["performance.md"]
        self.assertIn("contended", page)
        self.assertIn("- combine T=4096 k=8 E=64 fp32, 1 thread: 0.90 x best peer, 3 wanted", page)
        self.assertIn("- combine T=512 k=2 E=8 fp32, 1 thread: 0.90 (lower quartile 0.87) against `best`", page)
        self.assertNotIn("None", re.sub(r"None\.$", "", page, flags=re.M))
        self.assertEqual(files["README.md"].count("| LoRA, 8 tokens |"), 1)
        self.assertNotIn("old", files["README.md"])
        self.assertTrue(files["README.md"].endswith("<!-- performance end -->\nend\n"))
        self.assertEqual(len(re.findall(r"^\| ", files["README.md"], re.M)), 6)  # a head, five rows
        for name in ("performance_ratios.svg", "performance_roofline.svg"):
            xml.etree.ElementTree.fromstring(files[name])
            self.assertLess(len(files[name]), 60_000)
            self.assertIn("prefers-color-scheme: dark", files[name])

    def test_what_is_by_hand_stays(self):
        begin, end = report.NOTES
        files = self.generated(tiny(), old=f"# Old\n\n{begin}\nBy hand: \\1 and more.\n{end}\n\nrest\n")
        self.assertIn(f"{begin}\nBy hand: \\1 and more.\n{end}", files["performance.md"])
        self.assertNotIn("rest", files["performance.md"].split("## Method")[0].split(end)[1][:20])
        self.assertIn("\n\n".join(report.NOTES), self.generated(tiny())["performance.md"])

    def test_a_readme_without_its_marks_is_refused(self):
        with self.assertRaises(ValueError):
            self.generated(tiny(), readme="# r\n")


if __name__ == "__main__":
    sys.exit(unittest.main())
