"""Decide what decided a model's values.

Two witnesses are asked: what was seen to be loaded, as far as these values
are still there, and a second start, which tells what was not drawn.
"""

from dataclasses import replace
from typing import Dict, List, Optional, Union

from ..processes.ranks import share
from .checkpoints import outcome
from .loading import Record, Recorded
from .origins import Origins
from .second import Files, SecondStart, Seen, Source, look
from .tensors import place_of
from .tree import Entry, ModelTree
from .values import trace
from .whole import WholeModel


def find_origins(
    whole: WholeModel,
    known: Recorded,
    second: Union[SecondStart, str],
    files: Files,
) -> Origins:
    """Find out what decided the values of a model's tensors.

    With several processes, all of them have to call this.

    Args:
        whole (WholeModel): The model, as it is when training starts.
        known (Recorded): What was seen to be loaded into it.
        second (SecondStart | str): Its second start, or why there is none.
        files (dict): Tensors of files that were read for it.
    """
    origins = Origins()
    again = second if isinstance(second, SecondStart) else None
    if again and again.seeds_itself:
        origins.seeds_itself, again = True, None
        second = "the model's code seeds the random numbers itself"
    if again:
        files = {**again.files, **files}
    else:
        origins.known_by = f'recorded loads only: {second}'
    # Looking at parameters that lie in parts takes all ranks.
    has_records = bool(known.records or known.loads)
    origins.looked = again is not None or share(has_records)
    if origins.looked:
        _Judge(whole, known, again, files).judge(origins)
    return origins


class _Judge:
    """Both witnesses, and what follows from what they say."""

    def __init__(
        self,
        whole: WholeModel,
        known: Recorded,
        second: Optional[SecondStart],
        files: Files,
    ) -> None:
        self.tree, self.files = whole.tree, files
        self.again = second.recorded.records if second else {}
        self.seen = look(whole, second)
        moved = self._moved(known)
        self.known = replace(known, records={**moved, **known.records})
        self.second = second
        self.own = _own_state(whole.tree, known)
        self.own_again: Dict[int, str] = {}
        if second:
            self.own_again = _own_state(second.tree, second.recorded)

    def judge(self, origins: Origins) -> None:
        records: Dict[str, Record] = {}
        copies: Dict[str, str] = {}
        for name, record in self.known.records.items():
            if not self._is_there(name, record):
                self._changed(name, record, origins)
            elif self._depends_on_seed(name, record):
                continue  # a copy of what was drawn
            elif id(record) in self.own:
                copies[name] = self.own[id(record)]
            else:
                records[name] = record
        loaded_from = self._loads(origins, records)
        for name, record in records.items():
            origins.files[name] = self._source(record) or Source(
                loaded_from.get(id(record))
            )
        self._rest(origins, records)
        if self.second is not None:
            count = sum(bool(seen.drawn) for seen in self.seen.values())
            origins.known_by = (
                'recorded loads and a second start '
                f'({self.second.seconds:.1f} s), which drew {count} of '
                f'{len(self.seen)} tensors anew'
            )
        for name in copies:
            self._as_its_source(name, copies, origins)
        self._neighbours(origins)
        # What holds under one name of a tensor holds under all of them.
        for name, source in list(origins.files.items()):
            for other in self.tree.sharing.get(name, ()):
                origins.files.setdefault(other, source)
        names = self.tree.with_sharing(origins.code)
        origins.code = names - set(origins.files)

    def _moved(self, known: Recorded) -> Dict[str, Record]:
        """What was loaded into a module in whose place another one hangs and
        holds it now, as where statistics cease to be synchronized.
        """
        found: Dict[str, Record] = {}
        for path, load in known.loads:
            start = f'{path}.' if path else ''
            for key, record in load.records.items():
                name = start + key
                if name in self.seen and name not in known.records:
                    if record.trace and self._is_there(name, record):
                        found[name] = record
        # One single value may be there by chance.
        sure = {
            name.rpartition('.')[0]
            for name, record in found.items()
            if record.trace and not record.trace.is_one_value
        }
        return {n: r for n, r in found.items() if n.rpartition('.')[0] in sure}

    def _is_there(self, name: str, record: Record) -> bool:
        """Whether a tensor still holds what was loaded."""
        now = self.seen[name].trace
        return not record.trace or not now or now.is_of(record.trace)

    def _changed(self, name: str, record: Record, origins: Origins) -> None:
        """What was loaded, and holds other values now."""
        seen = self.seen[name]
        by_formula = (
            seen.drawn == 0
            and not seen.is_constant
            and self._source(seen) is None
        )
        if seen.was_kept or by_formula:
            origins.code.add(name)  # changed by other code, on purpose
            return
        origins.lost[name] = self._source(record) or Source()
        if seen.drawn is None:
            origins.code.add(name)  # on purpose or not: it is not known

    def _source(self, known: Union[Record, Seen]) -> Optional[Source]:
        """The file and the key that hold the values of a tensor."""
        return self.files.get(known.trace) if known.trace else None

    def _depends_on_seed(self, name: str, record: Record) -> bool:
        """Whether a second start has loaded other values there, if only a few
        elements that no trace has.
        """
        again = self.again.get(name)
        if again is None or again.times != record.times:
            return False  # one that this start did not make
        if again.trace is None or record.trace is None:
            return False
        seen = self.seen[name]
        is_partly = 0 < (seen.drawn or 0) < seen.elements
        return not again.trace.is_of(record.trace) or (
            is_partly and again.trace == seen.trace
        )

    def _loads(
        self, origins: Origins, records: Dict[str, Record]
    ) -> Dict[int, Optional[str]]:
        """What became of each state dict; and the file of each record."""
        files: Dict[int, Optional[str]] = {}
        for path, load in self.known.loads:
            sources = {n: self._source(r) for n, r in load.records.items()}
            named = [source.file for source in sources.values() if source]
            file = max(set(named), key=named.count) if named else None
            heads = {
                source.key[: -len(name)]
                for name, source in sources.items()
                if source and source.key and source.key.endswith(name)
            }
            head = heads.pop() if len(heads) == 1 else None
            files.update({id(r): file for r in load.records.values()})
            there = {id(record) for record in records.values()}
            used = load.records.values()
            # A state dict of the model's own is no checkpoint.
            if not used or any(id(record) in there for record in used):
                found = outcome(self.tree, path, load, file, head)
                if found.used or found.shapes or found.unused:
                    origins.checkpoints.append(found)
        return files

    def _rest(self, origins: Origins, records: Dict[str, Record]) -> None:
        """What was not seen to be loaded, or is not as it was loaded."""
        loads = [load.records.values() for _, load in self.known.loads]
        moved = {record.trace for used in loads for record in used}
        moved.update(record.trace for record in records.values())
        gone = self.known.records.keys() - records.keys()
        moved -= {self.known.records[name].trace for name in gone}
        for name, seen in self.seen.items():
            if name in origins.files:
                continue
            source, is_same = self._source(seen), seen.drawn == 0
            if is_same and self._loaded_again(name):
                origins.files[name] = source or Source()
            elif seen.is_constant and seen.trace:
                origins.constant[name] = seen.trace.first
            elif is_same and source:
                origins.files[name] = source
            elif seen.drawn is not None and seen.drawn < seen.elements:
                origins.code.add(name)
                if seen.drawn:
                    origins.drawn[name] = seen.drawn
            elif seen.trace is not None and seen.trace in moved:
                origins.files[name] = source or Source()

    def _loaded_again(self, name: str) -> bool:
        """Whether a file's values are there in the second start."""
        record, now = self.again.get(name), self.seen[name].trace
        if record is None or record.trace is None or now is None:
            return False
        if not now.is_of(record.trace):
            return False
        source = self.own_again.get(id(record))
        # A tensor of the model's own is a file's as far as that one is.
        return source is None or (
            source != name and self._loaded_again(source)
        )

    def _as_its_source(
        self,
        name: str,
        copies: Dict[str, str],
        origins: Origins,
    ) -> None:
        """What was loaded from a tensor of the model comes from where that
        does.
        """
        passed, source = {name}, copies[name]
        while source in copies and source not in passed:
            passed.add(source)
            source = copies[source]
        if source in origins.files:
            origins.files[name] = origins.files[source]
        elif source in origins.code:
            origins.code.add(name)

    def _neighbours(self, origins: Origins) -> None:
        """Constants, of which two starts do not tell whether a file has them:
        they are as the other tensors of their module, where nothing was seen
        to be loaded into it.
        """
        members: Dict[int, List[Entry]] = {}
        for entry in self.tree.entries:
            members.setdefault(id(entry.owner), []).append(entry)
        seen_to_be = self.tree.with_sharing(
            self.known.records.keys() | self.again.keys()
        )
        for entries in members.values():
            names = {entry.path for entry in entries}
            constant = names & origins.constant.keys() - set(origins.files)
            others = {
                entry.path
                for entry in entries
                if entry.value.is_floating_point()
            } - origins.constant.keys()
            if constant and others and not names & seen_to_be:
                if others <= set(origins.files):
                    source = origins.files[min(others)]
                    for name in constant:
                        origins.files[name] = Source(source.file)
                elif others <= origins.kept - set(origins.drawn):
                    origins.code |= constant


def _own_state(tree: ModelTree, recorded: Recorded) -> Dict[int, str]:
    """Of the state dicts that hold a model's own tensors (a student's, for a
    teacher), the records, by identity, and the tensor that each comes from.
    """
    at = {place_of(entry.value): entry for entry in tree.entries}
    at.pop(None, None)
    found: Dict[int, str] = {}
    for _, load in recorded.loads:
        pairs = [(at.get(r.source), r) for r in load.records.values()]
        if all(entry and _holds(entry, record) for entry, record in pairs):
            for entry, record in pairs:
                found[id(record)] = entry.path if entry else ''
    return found


def _holds(entry: Entry, record: Record) -> bool:
    now = trace(entry.value)
    return bool(now and record.trace and now.is_of(record.trace))
