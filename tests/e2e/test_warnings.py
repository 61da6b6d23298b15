"""What is asked for and does not act is told: in the answer, in the jobs document and in the log."""

from __future__ import annotations

from tests.e2e.calls import BASE, draw
from tests.reference_server import ReferenceServer


def test_a_request_that_is_followed_has_no_warnings(live: ReferenceServer) -> None:
    assert "warnings" not in draw(live).info


def test_unknown_fields_and_overrides_are_told_and_the_picture_is_drawn(live: ReferenceServer) -> None:
    plain = draw(live)
    told = draw(live, {"no_such_option": 1, "outdir_samples": "/etc"}, distilled_cfg_scale=3.5)
    assert told.image.tobytes() == plain.image.tobytes()
    assert told.info["warnings"] == [
        "field 'distilled_cfg_scale' is not known and has no effect",
        "override_settings: 'no_such_option' has no effect: there is no such option",
        "override_settings: 'outdir_samples' has no effect: the folder lies outside the output folders (--output-dir)",
    ]


def test_the_document_of_a_job_has_its_warnings(live: ReferenceServer) -> None:
    status, job = live.call("POST", "/latentd/v1/jobs", {**BASE, "wrong_field": 1})
    assert status == 202, job
    _, document = live.call("GET", job["url"])
    assert document["warnings"] == ["field 'wrong_field' is not known and has no effect"]
