"""What is done so that a cluster has what a backup has, in which order, and what is left alone."""

from __future__ import annotations

import copy
import itertools

import pytest

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.recovery.restore.config_plan import Act, Name, plan, reads
from phoenix_orch.recovery.sources.config_objects import KINDS, PENDING


def config_map(name="web", immutable=False, **data):
    one = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "shop"},
        "data": data,
    }
    return {**one, "immutable": True} if immutable else one


def secret(name="db", of_type="Opaque", **data):
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "shop"},
        "type": of_type,
        "data": data,
    }


def deployment(name="web", kind="Deployment", **spec):
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": {"spec": spec}},
    }


def live(one, uid="u1"):
    found = copy.deepcopy(one)
    found["metadata"] |= {"uid": uid, "resourceVersion": "7", "managedFields": []}
    return {**found, "status": {}}


def said(found):
    return [(step.act.value, step.name.kind, step.name.name, step.fields) for step in found.steps]


def test_nothing_is_done_where_nothing_differs():
    objects = [config_map(a="1"), secret(a="eA=="), deployment(containers=[])]
    found = plan(objects, map(live, objects))
    assert (found.steps, found.rolled, found.unchanged) == ((), (), 3)


def test_missing_is_made_and_what_differs_is_changed_by_field():
    found = plan([config_map(a="1", b="2"), secret(p="bmV3")], [live(config_map(a="0", c="3"))])
    assert said(found) == [
        ("create", "Secret", "db", ()),
        ("change", "ConfigMap", "web", ("data.a", "data.b", "data.c")),
    ]
    assert found.steps[1].uid == "u1"


def test_no_value_is_in_what_is_told():
    found = plan([secret(p="bmV3LXNlY3JldA==")], [live(secret(p="b2xk"))])
    assert "bmV3" not in repr([(step.act, step.name, step.fields) for step in found.steps]) + found.hash


@pytest.mark.parametrize(
    ("wished", "now", "act"),
    [
        (config_map(immutable=True, a="1"), config_map(immutable=True, a="2"), Act.REPLACE),
        (config_map(a="1"), config_map(immutable=True, a="2"), Act.REPLACE),
        (config_map(immutable=True, a="1"), config_map(a="1"), Act.CHANGE),
        (secret(of_type="kubernetes.io/tls", a="x"), secret(a="x"), Act.REPLACE),
        (secret(a="x"), secret(a="y"), Act.CHANGE),
    ],
)
def test_what_cannot_be_changed_is_replaced(wished, now, act):
    assert [step.act for step in plan([wished], [live(now)]).steps] == [act]


def test_a_label_of_an_immutable_one_is_changed_in_place():
    wished = config_map(immutable=True, a="1")
    wished["metadata"]["labels"] = {"a": "b"}
    assert [step.act for step in plan([wished], [live(config_map(immutable=True, a="1"))]).steps] == [
        Act.CHANGE
    ]


def test_another_selector_replaces_a_deployment():
    other = deployment()
    other["spec"]["selector"] = {"matchLabels": {"app": "other"}}
    assert [step.act for step in plan([deployment()], [live(other)]).steps] == [Act.REPLACE]


def test_what_only_the_cluster_has_is_left_alone_and_told_of():
    token = secret("t", of_type="kubernetes.io/service-account-token")
    found = plan(
        [config_map()],
        [live(config_map()), live(config_map("mine")), live(config_map("kube-root-ca.crt")), live(token)],
    )
    assert said(found) == [("leave", "ConfigMap", "mine", ())]
    assert found.acts == ()


def test_what_others_refer_to_comes_first():
    objects = [
        {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": "a", "namespace": "shop"},
        }
        for resource in KINDS
    ]
    for some in itertools.islice(itertools.permutations(objects), 0, 5000, 499):
        assert [step.name.kind for step in plan(some, []).steps] == [resource.kind for resource in KINDS]
    kinds = [resource.kind for resource in KINDS]
    places = [
        kinds.index(kind) for kind in ("ServiceAccount", "Secret", "ConfigMap", "Service", "Deployment")
    ]
    assert places == sorted(places)


def test_defaults_of_the_api_server_are_no_difference():
    now = live(deployment(containers=[]))
    now["spec"] |= {"progressDeadlineSeconds": 600, "revisionHistoryLimit": 10}
    assert plan([deployment(containers=[])], [now]).steps == ()


READERS = {
    "envFrom": {"containers": [{"envFrom": [{"configMapRef": {"name": "web"}}]}]},
    "env": {"containers": [{"env": [{"valueFrom": {"configMapKeyRef": {"name": "web", "key": "a"}}}]}]},
    "init": {"initContainers": [{"envFrom": [{"configMapRef": {"name": "web"}}]}]},
    "volume": {"volumes": [{"configMap": {"name": "web"}}]},
    "projected": {"volumes": [{"projected": {"sources": [{"configMap": {"name": "web"}}]}}]},
}


@pytest.mark.parametrize("how", READERS)
@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
def test_whoever_reads_what_changed_is_rolled(how, kind):
    reader, other = deployment(kind=kind, **READERS[how]), deployment("other", kind=kind, containers=[{}])
    assert reads(reader) == {("ConfigMap", "web")}
    there = [live(config_map(a="0")), live(reader), live(other)]
    assert plan([config_map(a="1"), reader, other], there).rolled == (Name("shop", kind, "web"),)
    assert plan([config_map(a="1")], there).rolled == (Name("shop", kind, "web"),), (
        "not in the backup, and reads it"
    )
    assert plan([config_map(a="0"), reader, other], there).rolled == ()


def test_secrets_are_read_in_the_same_ways():
    spec = {
        "volumes": [{"secret": {"secretName": "a"}}, {"projected": {"sources": [{"secret": {"name": "b"}}]}}],
        "containers": [
            {
                "envFrom": [{"secretRef": {"name": "c"}}],
                "env": [{"valueFrom": {"secretKeyRef": {"name": "d"}}}],
            }
        ],
    }
    assert reads(deployment(**spec)) == {("Secret", name) for name in "abcd"}
    assert reads({"kind": "Deployment", "metadata": {}}) == set()


def test_who_is_replaced_by_its_own_change_is_not_rolled_besides():
    reader = deployment(**READERS["envFrom"])
    changed = deployment(**READERS["envFrom"], terminationGracePeriodSeconds=5)
    found = plan([config_map(a="1"), changed], [live(config_map(a="0")), live(reader)])
    assert [step.act for step in found.steps] == [Act.CHANGE, Act.CHANGE]
    assert found.rolled == ()
    assert plan([config_map(a="1"), reader], [live(config_map(a="0"))]).rolled == (), "it is only made now"


def test_the_hash_says_what_would_be_done():
    one = plan([config_map(a="1")], [])
    assert one.hash == plan([config_map(a="1")], [live(config_map("mine"))]).hash, (
        "what is left alone is no part"
    )
    others = [
        plan([config_map(a="1")], [], source="another commit"),
        plan([config_map(a="1")], [live(config_map(a="0"))]),
        plan([config_map(a="1")], [live(config_map(a="0"), uid="u2")]),
        plan([config_map(a="1")], [live(config_map(b="0"))]),
        plan([], []),
    ]
    assert len({one.hash, *(other.hash for other in others)}) == 6


def test_who_waits_for_a_roll_since_a_restore_died_is_rolled():
    waiting = live(deployment(containers=[]))
    waiting["metadata"]["annotations"] = {PENDING: "2026"}
    found = plan([deployment(containers=[])], [waiting])
    assert (found.steps, found.rolled) == ((), (Name("shop", "Deployment", "web"),))


def test_the_size_that_an_autoscaler_says_is_left_to_it():
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "a", "namespace": "shop"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}},
    }
    wished, now = deployment(), deployment()
    wished["spec"]["replicas"], now["spec"]["replicas"] = 2, 9
    assert plan([wished], [live(now), live(scaler)]).acts == ()
    assert [step.fields for step in plan([wished], [live(now)]).acts] == [("spec.replicas",)]


def test_what_is_there_besides_is_told_apart():
    assert plan([config_map(a="1")], [live(config_map(b="0"))]).steps[0].extra == ("data.b",)


@pytest.mark.parametrize(
    "wrong", [{}, {"kind": "ConfigMap"}, {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}}]
)
def test_what_is_no_object_that_is_restored_is_refused(wrong):
    with pytest.raises(Invalid):
        plan([wrong], [])
