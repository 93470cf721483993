"""Acts by a file that `reverie export RUN --to onnx` (or stablehlo) wrote. Copy it: it imports nothing of Reverie.

    policy = ExportedPolicy("policy.onnx")     # needs numpy and onnxruntime; others: jax, flatbuffers, FILE.json
    policy.reset(seed=0)
    action = policy.act(observation)           # in the environment's units

`python exported_policy.py FILE` prints what it takes.
"""

import base64
import json
import sys
from pathlib import Path

import numpy as np


class ExportedPolicy:
    """One environment's policy. What it remembers from step to step is in it: one for each environment.

    about: names, shapes, types and units of what it takes and gives, action_low and action_high, and what it is of.
    """

    def __init__(self, path, threads=1):
        """threads: of ONNX Runtime for one action."""
        self._run, self.about = _onnx(path, threads) if str(path).endswith(".onnx") else _stablehlo(path)
        self._inputs, self._carry_names = self.about["inputs"], self.about["carry"]
        self._start = {
            name: np.frombuffer(base64.b64decode(text), self._dtype(name)).reshape(self._inputs[name]["shape"])
            for name, text in self.about["reset"].items()
        }
        self.reset()

    def reset(self, seed=0):
        """An episode begins. The seed, from 0 to 2^32 - 1, is of all random choices in it."""
        self._carry = dict(self._start)
        if "key" in self._carry:
            self._carry["key"] = np.array([0, seed], np.uint32)

    def act(self, observation, **feedback):
        """The action for an observation, or a dictionary of several; feedback: what the last step brought, such as
        reward=0.5, 0 where it is not given. Raises ValueError for an array that is missing or of another shape."""
        parts = observation.items() if isinstance(observation, dict) else [("", observation)]
        given = {f"observation/{name}".rstrip("/"): part for name, part in parts}
        given.update({f"feedback/{name}": value for name, value in feedback.items()})
        if unknown := [name for name in given if name.startswith("feedback/") and not self.takes(name)]:
            raise ValueError(f"{unknown[0]!r} is nothing that the policy takes; it takes {', '.join(self._inputs)}.")
        found = self._run({name: self._input(name, given) for name in self._inputs})
        self._carry.update({name: found[new] for name, new in self._carry_names.items()})
        return found["action"]

    def takes(self, name):
        """Whether it has an input of that name, such as "feedback/reward": others are not read."""
        return name in self._inputs

    def _dtype(self, name):
        return np.dtype(self._inputs[name]["dtype"])

    def _input(self, name, given):
        if name in self._carry:
            return self._carry[name]
        if name not in given and not name.startswith("feedback/"):
            raise ValueError(f"{name!r} is missing; the policy takes {', '.join(self.about['inputs'])}.")
        array, shape = np.asarray(given.get(name, 0), self._dtype(name)), self._inputs[name]["shape"]
        if list(array.shape) != shape:
            raise ValueError(f"{name!r} has shape {list(array.shape)}; the policy takes {shape}.")
        return array


def _onnx(path, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map["reverie"])
    names = list(about["outputs"])
    return lambda given: dict(zip(names, session.run(names, given))), about  # noqa: B905


def _stablehlo(path):
    import jax
    from jax import export

    step = jax.jit(export.deserialize(bytearray(Path(path).read_bytes())).call)
    return lambda given: jax.device_get(step(given)), json.loads(Path(f"{path}.json").read_text())


if __name__ == "__main__":
    print(json.dumps({key: x for key, x in ExportedPolicy(sys.argv[1]).about.items() if key != "reset"}, indent=2))
