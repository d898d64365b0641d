"""How a canary comes to run another revision: made from stable, or a patch of the one there is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.workload.deployment.canary import confusions, derived, with_images
from phoenix_orch.workload.deployment.manifest import Manifest, Patch, difference, items
from phoenix_orch.workload.deployment.refusal import Refusal
from phoenix_orch.workload.deployment.revision import marked, revision
from phoenix_orch.workload.deployment.scene import PodTemplate, Scene
from phoenix_orch.workload.deployment.selectors import as_stable
from phoenix_orch.workload.deployment.size import autoscaled, keep_size
from phoenix_orch.workload.deployment.target import is_ours

ONLY = ""
"""In place of a container's name: the only one there is."""


def made_canary(
    scene: Scene, template: PodTemplate, *, name: str, rollout: str, count: int
) -> dict[str, Any]:
    """The canary Deployment of `count` pods that runs `template`, made from stable; the size of stable at the
    start of the release is kept on it. Raises BadState where the two cannot be told apart."""
    made = derived(
        scene.stable,
        name=name,
        rollout=rollout,
        template=marked(template.manifest, template.runs),
        around=scene.around,
    )
    made["spec"]["replicas"] = count
    if (kept := keep_size(scene.stable, made, template.revision)) is not None:
        made["metadata"]["annotations"] = kept["metadata"]["annotations"]
    return made


def must_be_anew(found: Manifest, made: Manifest) -> bool:
    """It selects pods by other labels, which cannot be changed."""
    return bool(found["spec"]["selector"] != made["spec"]["selector"])


def turned_into(found: Manifest, made: Manifest) -> Patch:
    """The patch that lets the canary that Phoenix made run what `made` runs, in as many pods."""
    return {
        "metadata": {"annotations": made["metadata"]["annotations"]},
        "spec": {
            "replicas": made["spec"]["replicas"],
            "template": difference(found["spec"]["template"], made["spec"]["template"]),
        },
    }


def images_by_container(template: Manifest, images: Mapping[str, str]) -> dict[str, str]:
    """With the container's name in place of `ONLY`. Raises Invalid where that is not plain."""
    if ONLY not in images:
        return dict(images)
    names = [str(one.get("name")) for one in items(template, "spec", "containers")]
    if len(names) != 1 or len(images) != 1:
        raise Invalid(
            f"the pods have the containers {', '.join(names)}: it is not said which one gets the image",
            remedy=f"write {names[0]}={images[ONLY]}",
        )
    return {names[0]: images[ONLY]}


def from_stable(scene: Scene, images: Mapping[str, str]) -> PodTemplate:
    """What stable runs, with other images. Raises NotFound for an unknown container, Invalid."""
    before = scene.stable["spec"]["template"]
    manifest = with_images(before, images_by_container(before, images))
    return PodTemplate(manifest, revision(manifest, scene.contents))


def own_canary(
    scene: Scene, canary: Manifest, images: Mapping[str, str], count: int
) -> tuple[PodTemplate, Patch]:
    """What the user's own canary runs, with other images, and the patch that makes it so.

    Raises NotFound for an unknown container, Invalid.
    """
    before = canary["spec"]["template"]
    after = with_images(before, images_by_container(before, images))
    manifest = as_stable(after, scene.apart)
    patch: Patch = {"spec": {"replicas": count, "template": difference(before, after)}}
    return PodTemplate(manifest, revision(manifest, scene.contents)), patch


def unfit_canary(scene: Scene, canary: Manifest) -> list[Refusal]:
    """Why this Deployment cannot be the canary as it stands."""
    scaled = autoscaled(canary, scene.autoscalers)
    return [*confusions(scene.stable, canary, scene.around), *([scaled] if scaled is not None else [])]


def by_hand(scene: Scene, rollout: str) -> bool:
    """The canary that is there is somebody's own."""
    return scene.canary is not None and not is_ours(scene.canary, rollout)
