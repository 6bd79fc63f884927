"""Kubeflow's Model Registry beside MLflow: it shows what MLflow says, once, and decides nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest

from retrainer import doctor
from retrainer.__main__ import main
from retrainer.errors import ModelError, ServiceError, SettingError
from retrainer.evaluation.summary import closing_table
from retrainer.formats.report import read_report
from retrainer.registry.mirror import Mirrored, mirror
from retrainer.registry.register import register_model
from retrainer.services import json_http, lookup
from retrainer.services.connection import client
from retrainer.services.kubeflow_registry import ADDRESS, TOKEN, TOKEN_FILE, KubeflowRegistry, address_of
from retrainer.settings import Registry
from tests.champions import NAME, NET, Project, in_a_copy, without_serving_check
from tests.mlflow_server import free_port
from tests.model_registry import CUT, CUT_AFTER, Store, running_model_registry

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
]
Capture = pytest.CaptureFixture[str]
MODELS, VERSIONS, ARTIFACTS = "registered_models", "model_versions", "model_artifacts"


@pytest.fixture
def project(three_versions: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return in_a_copy(three_versions, tmp_path, monkeypatch)


@pytest.fixture
def second(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:  # noqa: ARG001
    """A Model Registry that the environment names, without the patience for one that is not well."""
    monkeypatch.setattr(json_http, "_waits", lambda _: iter([None]))
    with running_model_registry() as store:
        monkeypatch.setenv(ADDRESS, store.url)
        yield store


def told() -> Mirrored:
    import os

    return mirror(KubeflowRegistry(os.environ[ADDRESS]), NAME)


def test_every_version_is_shown_with_its_lineage_and_its_figures(second: Store) -> None:
    shown = told()
    assert (shown.made, list(shown.version_ids)) == (3, ["1", "2", "3"])
    assert second.properties(MODELS, NAME) == {"champion": "2", "challenger": "3"}
    assert [second.labels(number) for number in "123"] == [set(), {"champion"}, {"challenger"}]
    assert set(second.champions) == {0, 1}
    for number in "123":
        version, properties = lookup.by_version(NAME, number), second.properties(VERSIONS, number)
        assert version is not None
        for tag in (
            "model_sha256",
            "dataset_sha256",
            "verdict",
            "standing",
            "train_run_id",
            "evaluation_run_id",
        ):
            assert properties[tag] == version.tags[tag]
        metrics = client().get_run(version.tags["evaluation_run_id"]).data.metrics
        assert properties["accuracy"] == metrics["metrics.accuracy"]
        assert properties["accuracy.low"] == metrics["metrics.accuracy.low"]
        assert properties["mlflow_uri"] == f"models:/{NAME}/{number}"
        artifact = next(
            one for one in second.things[ARTIFACTS] if one["_parent"] == shown.version_ids[number]
        )
        assert artifact["uri"] == properties["bundle_uri"] == version.source
        assert (artifact["modelFormatName"], artifact["modelFormatVersion"]) == ("mlflow", "3")
    writes = second.writes
    assert (told().changed, second.writes) == (0, writes)


def test_a_persons_move_is_shown_and_there_are_never_two_champions(second: Store, capsys: Capture) -> None:
    assert main(["rollback", "--why", "too slow"]) == 0
    assert second.properties(MODELS, NAME)["champion"] == "1" and second.labels("1") == {"champion"}
    assert "too slow" in second.properties(VERSIONS, "2")["standing"]
    assert main(["promote", "3"]) == 0
    assert [second.labels(number) for number in "123"] == [set(), set(), {"champion"}]
    assert second.properties(MODELS, NAME) == {"champion": "3"}
    assert max(second.champions) == 1
    assert (
        f"{second.url} shows 3 versions of 'net', and which are champion and challenger: 0 new"
        in capsys.readouterr().out
    )
    assert main(["mirror"]) == 0
    assert "nothing was missing" in capsys.readouterr().out


def content(store: Store) -> dict[str, list[object]]:
    """What it shows, whatever the numbers are."""
    left_out = ("id", "_parent", "registeredModelId")
    return {
        kind: sorted(
            json.dumps({k: v for k, v in thing.items() if k not in left_out}, sort_keys=True)
            for thing in things
        )
        for kind, things in deepcopy(store.things).items()
    }


def test_a_writer_that_is_killed_anywhere_leaves_nothing_twice(second: Store) -> None:
    told()
    whole, writes = content(second), second.writes
    assert writes > 10
    for kind in (CUT, CUT_AFTER, "500"):
        for before in range(0, writes, 2 if kind == CUT_AFTER else 6):
            second.things.update({name: [] for name in second.things})
            second.champions.clear()
            second.faults = [*([""] * before), kind]
            with pytest.raises(ServiceError, match="Kubeflow's Model Registry at http"):
                told()
            told()
            assert content(second) == whole, (kind, before)
            assert max(second.champions) == 1


def test_a_moving_champion_is_told_again(second: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody moves the alias while a slow writer tells what it has read before."""
    create, moved = KubeflowRegistry.create, []

    def slow(self: KubeflowRegistry, path: str, fields: dict[str, object]) -> object:
        if not moved:
            moved.append(client().set_registered_model_alias(NAME, "champion", "1"))
        return create(self, path, fields)

    monkeypatch.setattr(KubeflowRegistry, "create", slow)
    told()
    assert moved and second.properties(MODELS, NAME)["champion"] == "1"
    assert [second.labels(number) for number in "12"] == [{"champion"}, set()]


def test_what_mlflow_no_longer_has_is_archived_and_what_others_added_stays(second: Store) -> None:
    ids = told().version_ids
    second.one(VERSIONS, "2")["customProperties"]["reviewed by"] = {
        "metadataType": "MetadataStringValue",
        "string_value": "ann",
    }
    second.create(VERSIONS, {"name": "by hand", "registeredModelId": second.one(MODELS, NAME)["id"]})
    second.one(VERSIONS, "1")["state"] = "ARCHIVED"  # by a person
    client().delete_registered_model_alias(NAME, "challenger")
    client().delete_model_version(NAME, "3")
    assert told().version_ids.keys() == ids.keys() - {"3"}
    gone = second.one(VERSIONS, "3")
    assert gone["state"] == "ARCHIVED" and second.labels("3") == set()
    assert second.properties(MODELS, NAME) == {"champion": "2"}
    assert second.properties(VERSIONS, "2")["reviewed by"] == "ann"
    assert (
        second.one(VERSIONS, "by hand")["state"] == "LIVE"
        and second.one(VERSIONS, "1")["state"] == "ARCHIVED"
    )
    assert main(["promote", "1"]) == 0
    assert second.one(VERSIONS, "1")["state"] == "LIVE"


@pytest.mark.parametrize("theirs", ["e" * 64, ""])
def test_a_version_of_another_model_is_not_overwritten(second: Store, theirs: str) -> None:
    told()
    properties = second.one(VERSIONS, "2")["customProperties"]
    del properties["model_sha256"]
    if theirs:
        properties["model_sha256"] = {"metadataType": "MetadataStringValue", "string_value": theirs}
    before = deepcopy(second.things)
    with pytest.raises(ModelError, match=r"version 2 of 'net' at http.* is another model.*registry\.name"):
        told()
    assert second.things == before


def test_registering_goes_on_where_the_second_registry_fails(
    project: Project, second: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_serving_check(monkeypatch)
    model, report = project.candidate(7, "challenger")
    out = project.folder / "registration"
    second.faults = ["503"]
    with pytest.raises(ServiceError, match=r"version 4 of 'net' is challenger in MLflow, .*make mirror"):
        register_model(model, report, out, NET)
    made = json.loads((out / "registration.json").read_text())
    assert made["kubeflow"]["state"] == "failed" and "HTTP 503" in made["kubeflow"]["why"]
    assert lookup.still_holds(made)
    table = " ".join(closing_table(read_report(report), made, report / "report.html").split())
    assert "Kubeflow NOT shown yet, MLflow alone has it" in table and "make mirror tells it" in table
    made = register_model(model, report, out, NET)
    assert made["version"] == "4" and made["kubeflow"]["state"] == "told"
    assert made["kubeflow"]["model_version_id"] == second.one(VERSIONS, "4")["id"]
    table = closing_table(read_report(report), made, report / "report.html")
    assert f"Kubeflow    shown at {second.url}" in table
    assert second.labels("4") == {"challenger"} and second.labels("3") == set()


# --- where it is, and who we are -------------------------------------------------------------------------


def test_the_setting_is_for_a_server_and_the_environment_goes_before_it(
    project: Project,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    setting = Registry.parse({"kubeflow": "http://registry.kubeflow:8080"}, "registry").kubeflow
    assert address_of(setting) == ""
    Path("params.yaml").write_text(f"registry: {{name: {NAME}, kubeflow: '{setting}'}}\n")
    assert main(["mirror"]) == 2
    assert "MLflow is a file of this machine; RETRAINER_KUBEFLOW_REGISTRY=" in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example")
    assert address_of(setting) == setting
    monkeypatch.setenv(ADDRESS, "https://elsewhere/prefix")
    assert address_of(setting) == "https://elsewhere/prefix"
    monkeypatch.setenv(ADDRESS, "none")
    assert address_of(setting) == ""
    for wrong in ("ann:abc@h:8080", "http:/ann:abc@h", "http://", "http://h:port", "http://h/?token=abc"):
        monkeypatch.setenv(ADDRESS, wrong)
        said = rf"{ADDRESS} is no address .*needed is http\(s\)://host:port, or none"
        with pytest.raises(SettingError, match=said) as caught:
            address_of(setting)
        assert "abc" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    ["registry:8080", "ftp://h", "http://ann:pw@h", "http://h/?token=abc", "http://[::1", "http://h:port"],
)
def test_a_setting_that_is_no_address_is_refused(wrong: str) -> None:
    with pytest.raises(SettingError, match=r"registry\.kubeflow"):
        Registry.parse({"kubeflow": wrong}, "registry")


def test_a_token_is_sent_and_never_shown(
    second: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "token"
    path.write_text("canary-token\n")
    monkeypatch.setenv(TOKEN_FILE, str(path))
    KubeflowRegistry(second.url).check()
    assert second.seen[-1]["Authorization"] == "Bearer canary-token"
    second.answer = (401, {})
    with pytest.raises(ServiceError, match=f"does not take these credentials .*{TOKEN}") as caught:
        KubeflowRegistry(second.url).check()
    assert "canary" not in str(caught.value)
    second.answer = (302, {"Location": "https://login.example/auth"})
    with pytest.raises(ServiceError, match=r"redirects to https://login\.example/auth; .*log in"):
        KubeflowRegistry(second.url).check()
    for content, said in (("", "is empty"), ("canary two", "no token"), ("canary\x00", "no token")):
        path.write_text(content)
        with pytest.raises(SettingError, match=rf"{TOKEN_FILE}=.*{said}") as refused:
            KubeflowRegistry(second.url)
        assert "canary" not in str(refused.value)
    monkeypatch.setenv(TOKEN_FILE, str(tmp_path / "nowhere"))
    with pytest.raises(SettingError, match="cannot be read"):
        KubeflowRegistry(second.url)
    monkeypatch.setenv(TOKEN, "another")
    second.answer = None
    KubeflowRegistry(second.url).check()
    assert second.seen[-1]["Authorization"] == "Bearer another"


def test_nothing_is_made_there_for_a_model_that_mlflow_does_not_have(second: Store, capsys: Capture) -> None:
    Path("params.yaml").write_text("registry: {name: another}\n")
    assert main(["mirror"]) == 0
    assert "MLflow has no version of 'another'" in capsys.readouterr().out
    assert second.writes == 0


def test_another_server_at_the_address_is_told(second: Store) -> None:
    second.answer = (200, {})
    with pytest.raises(ServiceError, match="answers as no Model Registry does; correct the address"):
        told()


def test_the_doctor_asks_whether_it_answers(
    project: Project, second: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        str(doctor.kubeflow("", project.folder))
        == f"ok    Kubeflow   the Model Registry at {second.url} answers"
    )
    monkeypatch.setenv(ADDRESS, f"http://ann:hidden@127.0.0.1:{free_port()}")
    found = doctor.kubeflow("", project.folder)
    assert found.state == "fail" and "does not answer" in found.text and "hidden" not in found.text
    monkeypatch.delenv(ADDRESS)
    assert "no registry.kubeflow" in doctor.kubeflow("", project.folder).text
