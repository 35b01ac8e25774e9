"""What can be done to sound before it is heard: ffmpeg's filters, by the names that clients know.

All of them even out loudness, over windows of time: what is far from the microphone comes nearer, and nothing is cut.
A table only; `decoding.py` runs the filters, in its child.
"""

from typing import NamedTuple

from runtime.tasks.speech import Preprocessing


class Filter(NamedTuple):
    name: str
    arguments: str


# dynaudnorm: b: the gain is the sound's own from its beginning to its end, and not 1 there; f: milliseconds of a frame;
# g: frames over which the gain is smoothed; m: the most gain; p: peak.
_STRONG = Filter("dynaudnorm", "b=1:f=250:g=15:m=20:p=0.95")
"""Whatever the sound is: gains change within seconds."""
_SOFT = Filter("dynaudnorm", "b=1:f=500:g=31:m=6:p=0.9")
"""One or a few voices near their microphones: gains change within a quarter of a minute, and little."""
_BASS = Filter("bass", "gain=6:frequency=150")

FILTERS: dict[Preprocessing, list[Filter]] = {
    "none": [],
    "dynamic": [_STRONG],
    "soft_dynamic": [_SOFT],
    "bass_dynamic": [_BASS, _STRONG],
}
