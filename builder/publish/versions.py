"""Versions of a member side by side: which one answers, and what must not differ."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from builder.errors import PublishError
from builder.publish.manifest import MemberRecord

_HEAD = re.compile(r"\A(?:#.*\n)*")
_SIGNATURE = ("max_batch_size", "input", "output", "model_transaction_policy")


def parse_config(text: str) -> pb.ModelConfig:
    """A `config.pbtxt` that the builder rendered."""
    return text_format.Parse(text, pb.ModelConfig())


def next_version(asked: str | None, member: MemberRecord | None) -> int:
    """The version to build.

    Args:
        asked: A number, `next`, or None: the one that answers.
        member: What the repository has of the member; None: nothing.

    Raises:
        PublishError: no positive number.
    """
    if asked is None:
        return member.live if member else 1
    if asked == "next":
        return max(member.versions, default=0) + 1 if member else 1
    if not re.fullmatch(r"[1-9]\d{0,9}", asked):
        raise PublishError(f"--version {asked}: give a number from 1 up, or next")
    return int(asked)


def refuse_other_signature(
    member: str, old: Mapping[str, str], new: Mapping[str, str], against: int
) -> None:
    """Versions share one config, so tensors and batching must be the same in all of them.

    Args:
        member: Its name, for the error.
        old: Model -> `config.pbtxt` of a version that is there.
        new: The same of the version that comes.
        against: The number of the old one.

    Raises:
        PublishError: says what differs.
    """
    if set(old) != set(new):
        changed = sorted(set(old) ^ set(new))
        raise PublishError(
            f"{member}: version {against} and this one do not have the same models "
            f"({', '.join(changed)}); build it into another folder, or under another name"
        )
    for model in old:
        before, after = parse_config(old[model]), parse_config(new[model])
        for name in _SIGNATURE:
            first, second = getattr(before, name), getattr(after, name)
            if first != second:
                raise PublishError(
                    f"{member}: {model} differs from version {against} in {name}: "
                    f"{_words(first)} there, {_words(second)} here; clients of one would break on "
                    "the other: give it another name"
                )


def _words(value: Any) -> str:
    """A field of a config in one line."""
    parts = (
        [value] if isinstance(value, int) else list(value) if hasattr(value, "__len__") else [value]
    )
    lines = [
        str(part) if isinstance(part, int) else text_format.MessageToString(part, as_one_line=True)
        for part in parts
    ]
    return "; ".join(lines).replace("data_type: TYPE_", "") or "nothing"


def serving_config(
    text: str, live: int, beside: int, versions: Collection[int], own: Collection[str]
) -> str:
    """A config that serves one version while another stays loaded.

    An ensemble's steps name the version of the member's own models, so that a request meets those
    of one version only, whatever is loaded meanwhile. The other models stay loaded in both, so
    that requests that began before a switch find theirs. A member of one model switches by its
    policy alone: Triton loads the new version before it drops the old one, and a request that
    names none gets the greatest that is loaded.

    Args:
        text: The config as it was rendered.
        live: The version that answers.
        beside: The version that answered before.
        versions: Versions that have a folder; the same set for every model of the member.
        own: Names of the member's models.
    """
    config = parse_config(text)
    ensemble = bool(config.ensemble_scheduling.step)
    for step in config.ensemble_scheduling.step:
        if step.model_name in own:
            step.model_version = live
    if ensemble:
        loaded = {live}
    elif len(own) > 1:
        loaded = {live, beside} | _wanted(config.version_policy, versions)
    else:
        loaded = {live} | {v for v in _wanted(config.version_policy, versions) if v < live}
    config.version_policy.specific.versions[:] = sorted(loaded)
    head = _HEAD.match(text)
    return (head[0] if head else "") + text_format.MessageToString(config, as_utf8=True)


def _wanted(policy: pb.ModelVersionPolicy, versions: Collection[int]) -> set[int]:
    """Versions that the spec's own policy keeps loaded; without one, no further."""
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return set(versions)
    if kind == "latest":
        return set(sorted(versions)[-policy.latest.num_versions :])
    return set(policy.specific.versions) & set(versions) if kind == "specific" else set()
