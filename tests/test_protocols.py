"""What a method may have beside the least is said by protocols, which shared code asks for and not for names."""

from reverie import protocols
from reverie.baselines import BC, PPO, SAC, TD3
from reverie.planners import DiffuserMaze
from reverie.policies import DIPO, FQL, QC


def test_methods_are_of_the_optional_protocols_that_they_have_the_parts_of():
    for method, of in (
        (BC(), ()),
        (SAC(), ("Explorer",)),
        (TD3(), ("Explorer",)),
        (FQL(), ("Explorer",)),
        (PPO(), ("Explorer", "OnPolicy")),
        (QC(), ("Explorer", "InOrder")),
        (DIPO(), ("Copying", "Explorer", "Writing")),
        (DiffuserMaze(), ("GoalReaching", "GoalSizing")),
    ):
        optional = ("Copying", "Explorer", "GoalReaching", "GoalSizing", "InOrder", "Noticing", "OnPolicy", "Signalled")
        found = [name for name in (*optional, "Writing") if isinstance(method, getattr(protocols, name))]
        assert found == [*of], method.name
