import base64

import pytest

from appliance.api.data.pictures import Picture, complete
from appliance.errors import Code, HearthError
from runtime.tasks.images import Drawn


def picture(index: int, is_filtered: bool = False) -> Picture:
    return Picture(Drawn(request_id="r", index=index, data=b"%d" % index, is_filtered=is_filtered), seed=70 + index)


def test_pictures_stand_in_the_order_of_their_seeds() -> None:
    assert [each.seed for each in complete({1: picture(1), 0: picture(0)}, 2)] == [70, 71]
    with pytest.raises(HearthError) as caught:
        complete({1: picture(1)}, 2)
    assert caught.value.code is Code.INTERNAL


def test_an_artifact_says_what_became_of_it() -> None:
    artifact = picture(3, is_filtered=True).artifact()
    assert (base64.b64decode(artifact.base64), artifact.seed) == (b"3", 73)
    assert (artifact.finish_reason, picture(3).artifact().finish_reason) == ("CONTENT_FILTERED", "SUCCESS")
