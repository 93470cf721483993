"""Asks a server of `reverie serve` for actions. Copy it: it imports nothing of Reverie, nor JAX.

with RemotePolicy("ws://127.0.0.1:8000", token="...") as policy:
    policy.reset(seed=0, target_return=3600)
    action = policy.act(observation, reward=0.5)
"""

import msgpack
import numpy as np
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect


class RemotePolicy:
    """One environment's policy, at the server. RuntimeError says, in the server's words, what it could not do."""

    def __init__(self, url, token=""):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            self._socket = connect(url, additional_headers=headers, compression=None, proxy=None)
        except InvalidStatus as error:
            raise RuntimeError(error.response.body.decode().strip()) from None

    def about(self):
        """The method, its observations, the actions' bounds, the feedback and the wishes that it takes."""
        return self._ask({"do": "about"})

    def reset(self, seed=0, **wishes):
        """An episode begins, in which something is wished for, such as a target return."""
        self._ask({"do": "reset", "seed": seed, "wishes": wishes})

    def act(self, observation, **feedback):
        """The action for an observation, or a dictionary of several; feedback: what the last step brought."""
        action = self._ask({"do": "act", "observation": observation, "feedback": feedback})["action"]
        return np.frombuffer(action["data"], action["dtype"]).reshape(action["shape"])

    def close(self):
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        self.close()

    def _ask(self, request):
        try:
            self._socket.send(msgpack.packb(request, default=_array))
            answer = msgpack.unpackb(self._socket.recv())
        except ConnectionClosed as error:
            raise RuntimeError(f"The server has closed the connection ({error}).") from None
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer


def _array(x):
    x = np.asarray(x)
    return {"dtype": x.dtype.name, "shape": list(x.shape), "data": x.tobytes()}
