"""`devnull theory`, as a person or a program meets it."""

import json
from itertools import pairwise, product

import numpy as np
import pytest

from devnull.cli.main import main
from devnull.theory.examples import hiding
from devnull.theory.model_file import read_model, write_model
from devnull.theory.random_models import random_returns


def run(capsys, *words):
    status = main(["theory", *map(str, words)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_example_a(capsys):
    status, out, _ = run(capsys, "example-a", "--json")
    found = json.loads(out)
    assert status == 0
    assert (found["J_star"], [row["policy"] for row in found["J_optimal"]]) == (3.5, ["aI, aC"])
    assert (found["Jobs_star"], [row["policy"] for row in found["Jobs_optimal"]]) == (4.5, ["aI, aH"])
    assert found["policies"]["aI, aH"] == {"J": 3.0, "J_obs": 4.5, "E_plus": 1.5, "E_minus": 0.0}
    (v,) = found["verdicts"]
    assert (v["deceptive_inflation"], v["overjustification"], v["in_theorem"]) == (True, False, True)
    assert (v["overestimation"], v["underestimation"]) == ("raised", "unchanged")
    assert found["ambiguity_dim"] == 2
    status, out, _ = run(capsys, "example-a")
    assert status == 0 and "deceptive inflation" in out and "J_obs*" in out


def test_every_parameter_of_the_examples_matters(capsys, tmp_path):
    plain = run(capsys, "example-a", "--json")[1]
    for flag in ("--p", "--p-hide", "--p-hide-without", "--r"):
        assert run(capsys, "example-a", "--json", flag, "0.9")[1] != plain, flag
    # W and WH are worth the same, so pW moves no return; it is in the belief
    for p_works in ("0.5", "0.9"):
        assert run(capsys, "example-a", "--p-works", p_works, "--out", tmp_path / f"{p_works}.npz")[0] == 0
    assert not np.array_equal(read_model(tmp_path / "0.5.npz").B, read_model(tmp_path / "0.9.npz").B)
    for flag in ("--p", "--p-default", "--r"):
        assert run(capsys, "example-b", "--json", flag, "0.7")[1] != run(capsys, "example-b", "--json")[1], flag


def test_example_b(capsys):
    status, out, _ = run(capsys, "example-b", "--json")
    found = json.loads(out)
    assert status == 0
    assert [row["policy"] for row in found["Jobs_optimal"]] == ["aI, aV"]
    assert found["policies"]["aI, aD"]["E_minus"] == pytest.approx(2.25)
    assert found["verdicts"][0]["overjustification"] and not found["verdicts"][0]["deceptive_inflation"]
    assert found["learners"]["belief-aware"] == "aD"
    status, out, _ = run(capsys, "example-b")
    assert status == 0 and "overjustification" in out and "no direction" in out


def brute(r):
    """Every stationary policy, by the definitions and nothing else."""
    p = r.pomdp
    rows = r.sequences.states.tolist()
    G = [sum(p.gamma**t * p.R[s] for t, s in enumerate(row)) for row in rows]
    G_obs = [
        sum(
            np.prod([p.PO[s, o] for s, o in zip(row, seen, strict=True)]) * np.dot(r.B[m], G)
            for m, seen in enumerate(r.sequences.observations.tolist())
        )
        for row in rows
    ]
    found = {}
    for policy in product(range(p.A), repeat=p.S):
        weights = [p.P0[row[0]] * np.prod([p.T[s, policy[s], t] for s, t in pairwise(row)]) for row in rows]
        found[policy] = tuple(
            float(np.dot(weights, values))
            for values in (
                G,
                G_obs,
                [max(0.0, b - a) for a, b in zip(G, G_obs, strict=True)],
                [max(0.0, a - b) for a, b in zip(G, G_obs, strict=True)],
            )
        )
    return found


@pytest.mark.parametrize("seed", range(6))
def test_solve_agrees_with_brute_force(capsys, tmp_path, seed):
    r = random_returns(
        np.random.default_rng(seed),
        S=3,
        A=2,
        O=2,
        horizon=2,
        gamma=0.9,
        density=(1.0, 0.5)[seed % 2],
        deterministic_observations=seed % 3 > 0,
    )
    path = tmp_path / "model.npz"
    write_model(path, r)
    status, out, _ = run(capsys, "solve", path, "--json")
    assert status == 0
    found, every = json.loads(out), brute(r)
    assert list(found) == [
        "J_star",
        "Jobs_star",
        "J_optimal",
        "Jobs_optimal",
        "verdicts",
        "ambiguity_dim",
    ]
    stars = [max(m[i] for m in every.values()) for i in (0, 1)]
    assert [found["J_star"], found["Jobs_star"]] == pytest.approx(stars)
    sets = [{pi for pi, m in every.items() if m[i] >= stars[i] - 1e-9} for i in (0, 1)]
    for name, expected in zip(("J_optimal", "Jobs_optimal"), sets, strict=True):
        assert {tuple(row["policy"]) for row in found[name]} == expected
        for row in found[name]:
            assert [row["J"], row["J_obs"], row["E_plus"], row["E_minus"]] == pytest.approx(
                every[tuple(row["policy"])], abs=1e-9
            )
    pairs = {(tuple(v["policy"]), tuple(v["reference"])): v for v in found["verdicts"]}
    assert set(pairs) == set(product(sets[1], sets[0]))
    for (policy, reference), v in pairs.items():
        a, b = every[policy], every[reference]
        assert v["deceptive_inflation"] == (a[2] > b[2] + 1e-9 and a[1] > b[1] + 1e-9)
        assert v["overjustification"] == (a[3] < b[3] - 1e-9 and a[0] < b[0] - 1e-9)
        assert v["in_theorem"] == (policy not in sets[0] and reference not in sets[1])
    visits = [[sum(0.9**t * (s == k) for t, s in enumerate(row)) for k in range(3)] for row in r.sequences.states]
    Gamma = np.array(visits)
    assert found["ambiguity_dim"] == np.linalg.matrix_rank(Gamma) - np.linalg.matrix_rank(r.B @ Gamma)


def test_an_example_written_out_solves_the_same(capsys, tmp_path):
    path = tmp_path / "a.npz"
    assert run(capsys, "example-a", "--out", path)[0] == 0
    status, out, _ = run(capsys, "solve", path, "--json")
    found = json.loads(out)
    assert status == 0
    assert (found["J_star"], found["Jobs_star"], found["ambiguity_dim"]) == (3.5, 4.5, 2)
    assert len(found["J_optimal"]) == len(found["Jobs_optimal"]) == 4**5
    assert len(found["verdicts"]) == 1, "1024 x 1024 pairs are told once for each behaviour"
    for kind in ("stationary", "time", "history"):
        status, out, _ = run(capsys, "solve", path, "--policies", kind)
        assert status == 0 and "deceptive inflation" in out and "2 direction(s)" in out


def test_impossible_beliefs_are_reported_and_solved(capsys, tmp_path):
    r = hiding().returns
    path = tmp_path / "odd.npz"
    write_model(path, r)
    arrays = dict(np.load(path))
    arrays["B"] = np.roll(arrays["B"], 1, axis=0)
    np.savez(path, **arrays)
    status, out, err = run(capsys, "solve", path, "--json")
    assert status == 0 and json.loads(out)["J_star"] == 3.5
    assert "believes in what cannot have been" in err


def changed(name):
    def change(arrays):
        match name:
            case "missing":
                del arrays["oseqs"]
            case "unknown":
                arrays["gama"] = arrays.pop("gamma")
            case "order":
                arrays["seqs"][[0, 1]] = arrays["seqs"][[1, 0]]
            case "repeated":
                arrays["seqs"] = np.concatenate([arrays["seqs"], arrays["seqs"][-1:]])
            case "lacking":
                arrays["seqs"] = arrays["seqs"][1:]
            case "unreachable":
                arrays["seqs"][-1] = [6, 6, 6, 6]
            case "range":
                arrays["oseqs"][2, 1] = 9
            case "width":
                arrays["oseqs"] = arrays["oseqs"][:, 1:]
            case "fraction":
                arrays["seqs"] = arrays["seqs"] + 0.5
            case "rows":
                arrays["T"][0, 0, 0] += 0.1
            case "belief":
                arrays["B"][0] *= 2
            case "shape":
                arrays["B"] = arrays["B"].T
            case "horizon":
                arrays["horizon"] = np.array([3, 3])
            case "half":
                arrays["horizon"] = np.array(2.5)
            case "text":
                arrays["R"] = np.array(["a"] * 7)
            case "objects":
                arrays["R"] = np.array([None] * 7, dtype=object)

    return change


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("missing", "missing oseqs (M, horizon+1), reachable observation sequences"),
        ("unknown", "unknown array 'gama'; did you mean 'gamma'?"),
        ("order", "comes after"),
        ("repeated", "repeats"),
        ("lacking", "lacks [0, 1, 2, 6], which can happen"),
        ("unreachable", "[6, 6, 6, 6], which cannot happen"),
        ("range", "entries run from 0 to 3"),
        ("width", "oseqs has shape (5, 3)"),
        ("fraction", "whole numbers"),
        ("rows", "row T[0, 0] sums to 1.1"),
        ("belief", "row B[0] sums to 2"),
        ("shape", "B has shape (8, 5)"),
        ("horizon", "horizon has shape (2,)"),
        ("half", "horizon is 2.5; it must be a whole number"),
        ("text", "R holds <U1"),
        ("objects", "cannot be read"),
    ],
)
def test_a_file_that_is_no_problem_is_refused_in_one_line(capsys, tmp_path, fault, message):
    path = tmp_path / "bad.npz"
    write_model(path, hiding().returns)
    arrays = {name: np.array(values) for name, values in np.load(path).items()}
    changed(fault)(arrays)
    np.savez(path, **arrays)
    status, out, err = run(capsys, "solve", path, "--json")
    assert (status, out) == (2, "")
    assert message in err and str(path) in err
    assert len(err.splitlines()) == 1


def test_what_is_no_npz_file(capsys, tmp_path):
    status, _, err = run(capsys, "solve", tmp_path / "none.npz")
    assert status != 0 and "none.npz" in err and len(err.splitlines()) == 1
    (tmp_path / "text.npz").write_text("hello")
    status, _, err = run(capsys, "solve", tmp_path / "text.npz")
    assert status == 2 and "not an .npz file; write it with numpy.savez: T (S, A, S)" in err


def test_model_files_round_trip(tmp_path):
    r = random_returns(np.random.default_rng(0), S=3, O=2, horizon=2, gamma=0.5)
    write_model(tmp_path / "r.npz", r)
    again = read_model(tmp_path / "r.npz")
    assert np.array_equal(again.G, r.G) and np.array_equal(again.G_obs, r.G_obs)
    assert (again.pomdp.gamma, again.pomdp.horizon) == (0.5, 2)


def test_check_prints_a_line_each(capsys):
    status, out, _ = run(capsys, "check", "--models", 8)
    assert status == 0
    assert all(line.startswith("ok   ") for line in out.splitlines())
    assert "threshold B: pD = q" in out and "Theorem 4.5" in out
    status, out, _ = run(capsys, "check", "--models", 8, "--json")
    assert status == 0 and json.loads(out)["holds"] is True
    assert run(capsys, "check", "--models", 0)[0] == 2


@pytest.mark.parametrize(("ending", "head"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
@pytest.mark.parametrize("example", ["a", "b"])
def test_plot(capsys, tmp_path, ending, head, example):
    path = tmp_path / f"regions.{ending}"
    assert run(capsys, "plot", "--out", path, "--example", example, "--steps", 9)[0] == 0
    assert path.read_bytes().startswith(head)


def test_plot_refuses_an_ending_it_cannot_write(capsys, tmp_path):
    status, _, err = run(capsys, "plot", "--out", tmp_path / "regions.docx", "--steps", 3)
    assert status == 2 and "no image format" in err and ".png" in err
    status, _, err = run(capsys, "plot", "--out", tmp_path / "none" / "regions.png", "--steps", 3)
    assert status == 2 and "make it first" in err


def test_bad_numbers_are_one_line(capsys):
    status, _, err = run(capsys, "example-a", "--p", "1.5")
    assert status == 2 and "p is 1.5; a probability lies between 0 and 1" in err
