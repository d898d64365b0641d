"""`phoenix keys`, as a person uses it, and what `age` makes of the keys."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from tests import debian
from tests.recovery_outcomes import seen

from phoenix_orch.cli.main import run
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.recovery import key_acts, keys
from phoenix_orch.recovery.errors import WrongKey
from phoenix_orch.recovery.folder_store import FolderStore
from phoenix_orch.recovery.keys import Recipient
from phoenix_orch.recovery.spec import S3Storage
from phoenix_orch.recovery.storage import located


class Person:
    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys

    def types(self, *words: str, status: int = 0) -> str:
        self._capsys.readouterr()
        found = run(["--data-dir", str(self.folder / "d"), *words])
        said = self._capsys.readouterr()
        assert found == status, said
        return said.out if status == 0 else said.err

    def beside(self, name: str) -> Person:
        return Person(self.folder / name, self._capsys)

    @property
    def online(self) -> Path:
        return self.folder / "d/keys/online.key"


@pytest.fixture
def person(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Person:
    monkeypatch.chdir(tmp_path)
    return Person(tmp_path, capsys)


def config(person: Person, *recipients: dict[str, object], **more: object) -> None:
    content = {"services": {}, "backup": {"recipients": recipients, **more}}
    (person.folder / "phoenix.yaml").write_text(json.dumps(content))


def test_from_nothing_to_a_check(person: Person) -> None:
    assert "would write" in person.types("keys", "init", "--dry-run")
    assert not person.online.exists()
    told = person.types("keys", "init")
    secret = next(line for line in told.splitlines() if line.startswith("AGE-SECRET-KEY-1"))
    assert secret not in person.online.read_text()
    assert oct(person.online.stat().st_mode & 0o777) == "0o600"
    snippet = told[told.index("backup:") : told.index("next:")]
    (person.folder / "phoenix.yaml").write_text(f"services: {{}}\n{snippet}")
    again = person.types("keys", "init", status=2)
    assert "there already" in again
    shown = person.types("keys", "show", "-f", "phoenix.yaml", "-o", "json")
    assert [(one["name"], one["offline"], one["here"]) for one in json.loads(shown)] == [
        ("online", False, True),
        ("recovery", True, False),
    ]
    assert "AGE-SECRET" not in shown + again
    assert "canary was made anew" in person.types("keys", "check", "-f", "phoenix.yaml")
    assert json.loads(person.types("keys", "check", "-f", "phoenix.yaml", "-o", "json")) == {
        "openedBy": "online",
        "recipients": 2,
        "renewed": False,
    }
    (person.folder / "recovery").write_text(secret)
    age = debian.program("age", "age")
    opened = subprocess.run(
        [age, "-d", "-i", "recovery", "d/backups/keys/canary.age"],
        cwd=person.folder,
        check=True,
        capture_output=True,
    )
    assert len(json.loads(opened.stdout)["recipients"]) == 2


def test_the_key_that_signs_is_made_with_them_told_and_kept(person: Person) -> None:
    signing = person.online.with_name("signing.pem")
    person.types("keys", "init", "--dry-run")
    assert not signing.exists()
    told = person.types("keys", "init")
    public = re.search(r"Manifests are signed as ([0-9a-f]{64})\.", told)
    assert public is not None
    assert oct(signing.stat().st_mode & 0o777) == "0o600"
    made = signing.read_bytes()
    assert b"PRIVATE KEY" in made
    assert "PRIVATE KEY" not in told
    snippet = told[told.index("backup:") : told.index("next:")]
    (person.folder / "phoenix.yaml").write_text(f"services: {{}}\n{snippet}")
    assert person.types("backup", "keys", "-f", "phoenix.yaml").strip() == public[1]
    person.types("backup", "run", "config", "-f", "phoenix.yaml")
    (manifest,) = (person.folder / "d" / "backups" / "v1").rglob("manifest.json")
    assert json.loads(manifest.read_bytes())["signature"]["key"] == public[1]
    assert signing.read_bytes() == made

    other = person.beside("other")  # which takes it for its own word
    other.folder.mkdir()
    signing.replace(other.folder / "theirs.pem")
    (other.folder / "d" / "keys").mkdir(parents=True)
    (other.folder / "theirs.pem").replace(other.online.with_name("signing.pem"))
    kept = json.loads(other.types("keys", "init", "--recovery-file", "r", "-o", "json"))
    assert kept[0]["signing"] == public[1]
    assert other.online.with_name("signing.pem").read_bytes() == made


def test_the_recovery_key_goes_into_a_file_that_is_not_written_over(person: Person) -> None:
    made = json.loads(person.types("keys", "init", "--recovery-file", "recovery.key", "-o", "json"))
    recovery = person.folder / "recovery.key"
    assert oct(recovery.stat().st_mode & 0o777) == "0o600"
    assert keys.read(recovery)[0].public == made[1]["key"]
    assert "a person alone" in person.types("keys", "init", "-o", "json", status=2)
    other = person.beside("other")
    other.folder.mkdir()
    assert "not written over" in other.types("keys", "init", "--recovery-file", str(recovery), status=2)
    assert not other.online.exists()
    assert [path.name for path in person.folder.glob(".recovery*")] == []


def test_after_a_rotation_old_and_new_open(person: Person) -> None:
    made = json.loads(person.types("keys", "init", "--recovery-file", "r", "-o", "json"))
    before = {"name": "online", "key": made[0]["key"]}
    offline = {"name": "recovery", "key": made[1]["key"], "offline": True}
    config(person, before, offline)
    person.types("keys", "check", "-f", "phoenix.yaml")
    assert "would make" in person.types("keys", "rotate", "--dry-run")
    assert len(keys.read(person.online)) == 1
    fresh = json.loads(person.types("keys", "rotate", "-o", "json"))
    assert [one.public for one in keys.read(person.online)] == [fresh["key"], before["key"]]
    assert oct(person.online.stat().st_mode & 0o777) == "0o600"
    person.types("keys", "check", "-f", "phoenix.yaml")
    config(person, before, {"name": "new", "key": fresh["key"]}, offline)
    assert "3 recipients" in person.types("keys", "check", "-f", "phoenix.yaml")
    config(person, {"name": "new", "key": fresh["key"]}, offline)
    assert "opened with new" in person.types("keys", "check", "-f", "phoenix.yaml")
    seen(
        "Keys",
        "the online key is rotated",
        "at any time",
        leaves="backups that the old key or the offline one opens",
        then="later ones are opened by the new key or the offline one",
    )


def test_what_would_lose_backups_is_refused(person: Person) -> None:
    made = json.loads(person.types("keys", "init", "--recovery-file", "r", "-o", "json"))
    online, offline = made[0]["key"], made[1]["key"]
    for recipients, message in (
        ([{"name": "a", "key": online}], "at least 2"),
        ([{"name": "a", "key": online}, {"name": "b", "key": offline}], "offline"),
        (
            [{"name": "a", "key": online, "offline": True}, {"name": "b", "key": offline}],
            "private key of a is on this machine",
        ),
        (
            [
                {"name": "a", "key": keys.generate().public},
                {"name": "b", "key": offline, "offline": True},
            ],
            "no private key here belongs",
        ),
    ):
        config(person, *recipients)
        assert message in person.types("keys", "check", "-f", "phoenix.yaml", status=2)
    assert "no backups are configured" in person.types("keys", "check", status=2)


def test_ssh_keys_and_passphrases(tmp_path: Path) -> None:
    program = debian.program("ssh-keygen", "openssh-client")
    subprocess.run([program, "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "id"], check=True)
    online = keys.generate()
    recipients = [Recipient((tmp_path / "id.pub").read_text(), "ssh", offline=True), Recipient(online.public)]
    sealed = keys.sealed_small(b"content", recipients)
    assert keys.opened_small(sealed, keys.read(tmp_path / "id"), "it") == b"content"
    import pyrage  # noqa: PLC0415

    (tmp_path / "sealed").write_bytes(pyrage.passphrase.encrypt(online.secret.encode(), "open sesame"))
    assert keys.read(tmp_path / "sealed", lambda: "open sesame")[0].public == online.public
    with pytest.raises(WrongKey, match="passphrase"):
        keys.read(tmp_path / "sealed", lambda: "wrong")
    with pytest.raises(Invalid, match="sealed with a passphrase"):
        keys.read(tmp_path / "sealed")


@pytest.mark.parametrize(
    "text", ["", "# nothing", "AGE-SECRET-KEY-1QQQQ", "-----BEGIN OPENSSH PRIVATE KEY-----\nx"]
)
def test_a_file_that_holds_no_key_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(Invalid) as refusal:
        keys.parsed(text.encode(), "the file")
    assert "QQQQ" not in str(refusal.value)
    assert refusal.value.remedy


def test_a_private_key_as_a_recipient_is_refused_without_repeating_it() -> None:
    secret = keys.generate().secret
    with pytest.raises(Invalid) as refusal:
        Recipient(secret)
    assert secret[16:24] not in str(refusal.value)
    assert secret not in repr(keys.generate())


def test_a_damaged_canary_is_told(tmp_path: Path) -> None:
    online, offline = keys.generate(), keys.generate()
    recipients = [Recipient(online.public, "on"), Recipient(offline.public, "off", offline=True)]
    store = FolderStore(tmp_path)
    assert key_acts.check(store, recipients, [online]).renewed
    path = tmp_path / key_acts.CANARY
    raw = path.read_bytes()
    path.write_bytes(raw[:-1])
    with pytest.raises(WrongKey, match="damaged"):
        key_acts.check(store, recipients, [online])


def test_credentials_of_s3(tmp_path: Path) -> None:
    spec = S3Storage.model_validate({"bucket": "backups"})
    keyed = located(spec, {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t"})
    assert (keyed.access_key, keyed.secret_key, keyed.session_token) == ("a", "s", "t")
    assert "'s'" not in repr(keyed)
    with pytest.raises(Invalid, match="AWS_SECRET_ACCESS_KEY is not set"):
        located(spec, {"AWS_ACCESS_KEY_ID": "a"})
    assert located(spec, {}).access_key == ""
    file = tmp_path / "credentials"
    spec = S3Storage.model_validate({"bucket": "backups", "credentials": {"file": str(file)}})
    for content, message in (
        (None, "no such file"),
        ("[other]", "it has no default"),
        ("nonsense", "no file of credentials"),
        ("[default]\naws_access_key_id = a", "it has no aws_secret_access_key"),
    ):
        if content is not None:
            file.write_text(content)
        with pytest.raises(Invalid, match=message):
            located(spec, dict(os.environ))
    file.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = p%ss\n")
    assert located(spec, {}).secret_key == "p%ss"


def test_backups_are_sealed_for_other_keys(person: Person) -> None:
    told = json.loads(person.types("keys", "init", "--recovery-file", "safe.key", "-o", "json"))
    first = [{name: one[name] for name in ("name", "key", "offline")} for one in told]
    config(person, *first)
    person.types("backup", "run", "config", "-f", "phoenix.yaml")
    fresh = json.loads(person.types("keys", "rotate", "-o", "json"))["key"]
    config(person, {"name": "fresh", "key": fresh}, first[1])
    assert "which backups?" in person.types("keys", "rekey", "-f", "phoenix.yaml", status=2)
    (would,) = json.loads(
        person.types("keys", "rekey", "--all", "--dry-run", "-f", "phoenix.yaml", "-o", "json")
    )
    assert would["new"] == ""
    line = (
        "keys",
        "rekey",
        "--component",
        "config",
        "--reason",
        "stolen",
        "-f",
        "phoenix.yaml",
        "-o",
        "json",
    )
    (done,) = json.loads(person.types(*line))
    assert (done["id"], done["component"]) == (would["id"], "config")
    assert json.loads(person.types(*line)) == []
    shown = json.loads(person.types("backup", "show", done["new"], "-f", "phoenix.yaml", "-o", "json"))
    assert fresh in json.dumps(shown)
    assert first[0]["key"] not in json.dumps(shown)
    acts = [json.loads(line) for line in person.types("audit", "export").splitlines()]
    assert [one["outcome"] for one in acts if one["action"] == "keys.rekey"] == ["asked", "done"]
