"""How lanes connect over junctions, and who gives way there."""

from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType

PRIORITY_STATES = frozenset("GO")
"""Signal states in which one need not give way."""


@dataclass(frozen=True)
class Link:
    """A way out of a lane.

    Attributes:
        lane_id: the lane it leads to.
        via_lane_id: the lane inside of the junction, or empty where lanes join directly.
        turn: SUMO's direction: s straight, l/L left, r/R right, t turn around.
        signal: id of the traffic light that governs it, or empty.
        signal_index: its position in the state of that light.
        yields: whether it must give way where no light says otherwise (see ``Junctions.must_give_way``).
    """

    lane_id: str
    via_lane_id: str
    turn: str
    signal: str
    signal_index: int
    yields: bool


class Junctions:
    """The junctions of a running simulation.

    Args:
        sumo: libsumo, with the simulation loaded.
    """

    def __init__(self, sumo: ModuleType) -> None:
        self._sumo = sumo
        self._links: dict[str, tuple[Link, ...]] = {}
        self._signals = self._signal_indices()

    def links(self, lane_id: str) -> tuple[Link, ...]:
        """Ways out of a lane that is not inside of a junction."""
        if lane_id not in self._links:
            self._links[lane_id] = tuple(self._read_links(lane_id))
        return self._links[lane_id]

    def inner_lanes(self, link: Link) -> tuple[str, ...]:
        """The lanes inside of the junction that a link runs over, in order."""
        inner: list[str] = []
        via = link.via_lane_id
        while via.startswith(":"):
            inner.append(via)
            via = next((str(onward[4]) for onward in self._sumo.lane.getLinks(via)), "")
        return tuple(inner)

    def signal_state(self, link: Link) -> str:
        """State of the light that governs a link (SUMO's letter), or empty where there is none."""
        if not link.signal:
            return ""
        return str(self._sumo.trafficlight.getRedYellowGreenState(link.signal)[link.signal_index])

    def must_give_way(self, link: Link) -> bool:
        """Whether one may enter the junction only where ``way_is_free`` now; a red light is another matter."""
        state = self.signal_state(link)
        return state not in PRIORITY_STATES if state else link.yields

    def way_is_free(self, from_lane_id: str, link: Link) -> bool:
        """Whether one who must give way could enter the junction now and go through without a stop."""
        get_links = self._sumo.lane.getLinks
        ways = [way for way in get_links(from_lane_id) if (way[0], way[4]) == (link.lane_id, link.via_lane_id)]
        # Where SUMO lets vehicles wait in the middle of a junction, it decides there on who gives way.
        ways += [way for inner in self.inner_lanes(link)[:-1] for way in get_links(inner)]
        return all(is_open for _, _, is_open, *_ in ways)

    def _read_links(self, lane_id: str) -> Iterable[Link]:
        for target, has_priority, _, _, via, _, turn, _ in self._sumo.lane.getLinks(lane_id):
            signal, index = self._signals.get((lane_id, target), ("", -1))
            yield Link(str(target), str(via), str(turn), signal, index, not has_priority)

    def _signal_indices(self) -> dict[tuple[str, str], tuple[str, int]]:
        indices: dict[tuple[str, str], tuple[str, int]] = {}
        for light in sorted(self._sumo.trafficlight.getIDList()):
            for index, governed in enumerate(self._sumo.trafficlight.getControlledLinks(light)):
                for from_lane, to_lane, _ in governed:
                    indices[(str(from_lane), str(to_lane))] = (light, index)
        return indices
