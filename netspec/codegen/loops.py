"""Loops in `forward`: over the members of an `nn.ModuleList`, and over lists of tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable

from netspec.codegen.literals import as_identifier, local_name
from netspec.codegen.operations import EACH, Operations
from netspec.codegen.rolls import Roll, part, span_of
from netspec.codegen.steps import Read
from netspec.program import Apply, Arithmetic, Node, Ref


class Straight(Exception):
    """The copies of this group are not written alike: write them one by one."""

    def __init__(self, group: int) -> None:
        super().__init__()
        self.group = group


class Loops(Operations):
    """Writes what runs for every module or tensor of a list."""

    # Comprehensions

    def computed(self, node: Node) -> tuple[str, int]:
        """The text of a node's operation; of a list of tensors one for every one of them."""
        roll = self.steps.rolls.get(id(node))
        if roll is not None:
            return self.branches(roll), 1
        if node.each is None:
            return super().computed(node)
        source = self.steps.read(node.each, node)
        variable = self.names_for([source], self.taken | self.words(self.steps.measured.get(id(node), {}).values()))[0]
        one, inputs = Ref(None, EACH, node.each.type), self.steps.inputs[id(node)]
        self.steps.inputs[id(node)] = {k: (one,) if isinstance(ref, tuple) else one for k, ref in inputs.items()}
        self.standing[0, EACH] = variable
        text, _ = super().computed(node)
        self.steps.inputs[id(node)] = inputs
        return f"[{text} for {variable} in {self.read(source)[0]}]", 1

    def branches(self, roll: Roll) -> str:
        """`[branch(x) for branch in self.branches]`, `{name: branch(x) for name, branch in self.branches.items()}`."""
        taken = self.taken | self.words(roll.fixed)
        module = self.module_variable(roll.owner, taken)
        variables = self.names_for([zipped.source for zipped in roll.zipped], {module} | taken, roll)
        text = self.copy_texts(roll, module, variables, "")
        modules = self.member(roll.owner)
        if roll.by_name:
            key = "name" if module != "name" else "key"
            if roll.zipped:
                raise Straight(id(roll.owner))
            return f"{{{key}: {text[-1]} for {key}, {module} in {modules}.items()}}"
        return f"[{text[-1]} for {', '.join([module, *variables])} in {self.iterated(roll, [modules])}]"

    # Statements

    def chain(self, roll: Roll, variable: str, name: str) -> list[str]:
        """A chain as a loop that sets `variable`, and keeps what each copy gives under `name` where one is given."""
        assert roll.start is not None
        modules = [self.member(roll.owner)] if roll.modules else []
        module = self.module_variable(roll.owner, {variable, name} | self.taken) if modules else ""
        variables = self.names_for([z.source for z in roll.zipped], {module, variable, name, "x"} | self.taken, roll)
        self.taken |= {module, *variables}
        start = self.read(roll.start)[0]
        lines = [f"{variable} = {start}"] if start != variable else []
        if name:
            lines.append(f"{name} = [{variable}]" if roll.passed else f"{name} = []")
        body = self.copy_texts(roll, module, variables, variable)
        names = [module, *variables] if modules else variables
        if names:
            lines.append(f"for {', '.join(names)} in {self.iterated(roll, modules)}:")
        else:
            lines.append(f"for _ in range({len(roll.copies)}):")
        lines += [f"    {line}" for line in body]
        if name:
            lines.append(f"    {name}.append({variable})")
        return lines

    def iterated(self, roll: Roll, modules: list[str]) -> str:
        """What a loop runs over: `self.downs`, `zip(self.ups, reversed(downs[:-1]))`."""
        lists = [span_of(z.length, z.positions, self.read(z.source)[0]) for z in roll.zipped]
        texts = [*modules, *lists]
        return texts[0] if len(texts) == 1 else f"zip({', '.join(texts)}, strict=True)"

    def copy_texts(
        self, roll: Roll, module: str, variables: list[str], carried: str, alike: Ref | None = None
    ) -> list[str]:
        """The statements of one copy; raises Straight where another copy would be written otherwise. `alike` is
        written as what the loop carries is.
        """
        if roll.rereads_start and alike is None:
            self.copy_texts(roll, module, variables, carried, roll.start)
        kept = set(self.taken), dict(self.texts)
        found: list[list[str]] = []
        for k, nodes in enumerate(roll.copies):
            self.taken = set(kept[0])
            self.texts = dict(kept[1])
            self.standing = {}
            for i, zipped in enumerate(roll.zipped):
                one = part(zipped.source, zipped.positions[k])
                self.standing[_key(one)] = variables[i]
            if k == 0 and roll.rereads_start and alike is None:
                continue  # one reference stands for two things here: the second copy says what the loop does
            previous = roll.results[k - 1] if k else roll.start
            for ref in (previous, alike):
                if roll.chained and ref is not None:
                    self.standing[_key(ref)] = carried
            if module:
                self.modules[id(nodes[0])] = module
            found.append(self.statements_of(nodes, roll, k, carried))
        self.taken, self.texts = kept
        self.standing, self.modules = {}, {}
        if any(lines != found[0] for lines in found):
            raise Straight(id(roll.owner))
        return found[0]

    def statements_of(self, nodes: list[Node], roll: Roll, k: int, carried: str) -> list[str]:
        """The statements of copy `k`, the last of which sets the variable that the loop carries."""
        if roll.modules:
            if self.returns(nodes[0]):
                raise Straight(id(roll.owner))
            text = self.computed(nodes[0])[0]
            return [f"{carried} = {text}" if carried else text]
        result = roll.results[k]
        if result.node is not nodes[-1] or result.name:
            raise Straight(id(roll.owner))
        readers = {id(n): sum(ref.node is n for other in nodes for ref in self.steps.refs(other)) for n in nodes}
        lines: list[str] = []
        for i, node in enumerate(nodes):
            if self.is_conditional(node) or (self.returns(node) and node is not nodes[-1]):
                raise Straight(id(roll.owner))
            text, depth = self.expression(node)
            if i + 1 < len(nodes) and self.defers(node, i, nodes, readers):
                self.texts[(id(node), "")] = (text, depth)
                continue
            if not readers[id(node)] and node is not nodes[-1]:
                if not isinstance(node.op, Arithmetic):
                    lines.append(text)
                continue
            name = carried
            if node is not nodes[-1] and self.is_read_later(roll, k, nodes, i):
                name = self.fresh(as_identifier(node.name))
            self.texts[(id(node), "")] = (name, 0)
            lines.append(f"{name} = {text}")
        return lines

    def is_read_later(self, roll: Roll, k: int, nodes: list[Node], i: int) -> bool:
        """Whether a value, or the one that the loop carries, is still read after the next statement."""
        later = [ref for node in nodes[i + 2 :] for ref in self.steps.refs(node)]
        next_ = self.steps.refs(nodes[i + 1])
        carried = any(roll.is_previous(ref, k) for ref in [*next_, *later])
        return carried or any(ref.node is nodes[i] for ref in later)

    # Names

    def words(self, refs: Iterable[Ref]) -> set[str]:
        """The names in the texts of these values, which a comprehension's own variable must not hide."""
        return {word for ref in refs for word in re.findall(r"\w+", self.read(ref)[0])}

    def module_variable(self, owner: Node, taken: set[str]) -> str:
        """What one member of an `nn.ModuleList` is called: `down` of `downs`."""
        base = singular(as_identifier(owner.name)) if not owner.name.isdigit() else ""
        for name in (base, f"{base}_layer" if base else "", "layer", "module"):
            if name and name != owner.name and name not in taken and name.isidentifier():
                return name
        return self.fresh("layer")

    def names_for(self, sources: Iterable[Read], taken: set[str], roll: Roll | None = None) -> list[str]:
        """What one tensor of each list is called: as the block calls it that takes it, or `feature` of `features`."""
        names: list[str] = []
        for i, source in enumerate(sources):
            wanted = [self.port_of(roll, i)] if roll is not None and roll.chained else []
            if isinstance(source, Ref):
                wanted.append(singular(as_identifier(source.node.name if source.node else source.name)))
            named = as_identifier(source.node.name if source.node else source.name) if isinstance(source, Ref) else ""
            free = [n for n in [*wanted, "x", "y"] if n and n != named and n not in taken and n not in names]
            names.append(free[0] if free else self.fresh("one"))
        return names

    def port_of(self, roll: Roll | None, i: int) -> str:
        """The input of a block that takes the tensors of a list that the loop runs over."""
        if roll is None or not isinstance(roll.copies[0][0].op, Apply):
            return ""
        inputs = self.steps.inputs[id(roll.copies[0][0])]
        one = part(roll.zipped[i].source, roll.zipped[i].positions[0])
        return next((as_identifier(p) for p, r in inputs.items() if isinstance(r, Ref) and _key(r) == _key(one)), "")

    def fresh(self, base: str) -> str:
        """A variable of that name, with a number where it is taken."""
        name, number = local_name(base), 2
        while name in self.taken or name in ("x", "out"):
            name, number = f"{base}{number}", number + 1
        self.taken.add(name)
        return name


def _key(ref: Ref) -> tuple[int, str]:
    return (id(ref.node) if ref.node is not None else 0, ref.name)


def singular(name: str) -> str:
    """`down` of `downs`, `branch` of `branches`, `entry` of `entries`; the name itself where it is no plural."""
    for ending, instead in (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("sses", "ss"), ("s", "")):
        if name.endswith(ending) and len(name) > len(ending) + 1 and not name.endswith("ss"):
            return name.removesuffix(ending) + instead
    return name
