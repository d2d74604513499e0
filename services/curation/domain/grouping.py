"""The permanent place of a row: its group, and the side of the split on which that group stands for ever."""

import hashlib
import hmac
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from libs.contracts.pseudonyms import key_of
from libs.contracts.task import SplitSpec
from services.curation.domain.rows import Row
from services.curation.domain.split import TEST, VALIDATION, split_of

_PUBLIC = "grp-"


def groups_of(
    rows: Sequence[Row],
    form_of: Callable[[int], frozenset[str]],
    centres: Sequence[Sequence[int]],
    known: Mapping[str, tuple[str, str]],
    *,
    customers: bool,
) -> list[str]:
    """The group of each row: the one it had, its customer's, its conversation's, its centre's, or one of its own.

    Customers (by whom rows are grouped where `customers` is set) come before conversations: most rows of one whose
    conversations stood in several splits would be withheld. `centres` holds, for each way of being alike, the centre of
    each row (itself, for a centre); the first way that finds an earlier row says which group. A customer (or
    conversation) that begins with a row like one of another group belongs to that group for good; where it meets others
    later, sealing withholds. `form_of` gives the words of the row at a place. A known row keeps its group whatever
    became of the rows it was once grouped by.
    """
    named: list[str] = []
    roots: dict[str, str] = {}
    for at, row in enumerate(rows):
        own = _own(row, customers=customers)
        root = next((roots[name] for name in own if name in roots), None)
        alike = next((named[way[at]] for way in centres if way[at] < at), None)
        if row.row_id in known:
            named.append(known[row.row_id][0])
        elif root is not None:
            named.append(root)
        elif alike is not None:
            named.append(alike)
        elif own:
            named.append(own[0])
        else:
            text = " ".join(sorted(form_of(at)))
            named.append(f"c:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}")
        for name in own:
            roots.setdefault(name, named[-1])
    return named


def conversation_of(row: Row) -> str | None:
    """The name of the group that the row's conversation makes, where it has one."""
    return f"g:{row.group}" if row.group is not None else None


def _own(row: Row, *, customers: bool) -> list[str]:
    user = f"u:{row.user}" if customers and row.user is not None else None
    return [name for name in (user, conversation_of(row)) if name is not None]


def public_names(secret: bytes, tenant: str) -> Callable[[str], str]:
    """What a group is called wherever it is written: `grp-` and 32 hex digits of its keyed hash; such a name stays.

    Conversations and customers are called by whoever sends them, and may be called by a person's name. The tenant's
    tasks call a group alike, so that the suite of one is sealed against the others.
    """
    key = key_of(secret, tenant, "groups")

    def public(group: str) -> str:
        if group.startswith(_PUBLIC):
            return group
        return _PUBLIC + hmac.new(key, group.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:32]

    return public


def place(
    rows: Sequence[Row],
    groups: Sequence[str],
    known: Mapping[str, tuple[str, str]],
    public: Callable[[str], str],
    salt: str,
    fractions: SplitSpec,
    holdout_after: datetime | None,
    validation_sources: Collection[str] = (),
) -> list[Row]:
    """The rows with group (its `public` name) and split. `rows` in order of arrival: the first of a group founds it.

    A split is a function of salt and group, but for groups founded by a row of `validation_sources`, which are
    validation, and for those founded at or after `holdout_after`, which are test.
    """
    splits = dict(known.values())
    placed: list[Row] = []
    for row, group in zip(rows, groups, strict=True):
        name = public(group)
        if name not in splits:
            late = holdout_after is not None and row.created_at >= holdout_after
            # Drawn from what the group is, not from what it is called: another key moves nobody.
            drawn = TEST if late else split_of(salt, group, fractions)
            splits[name] = VALIDATION if row.source in validation_sources else drawn
        own = conversation_of(row)
        conversation = public(own) if own is not None else None
        placed.append(replace(row, conversation=conversation, split_group=name, split=splits[name]))
    return placed
