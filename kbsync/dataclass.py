"""A faster `dataclasses.dataclass` for a program that starts often: it creates a class in a tenth of the
time.

The standard one compiles six methods for each class, which takes 0.4 ms. A command loads a hundred classes
but instantiates few, most of them only a few times. Here, all classes share five of these methods, and
`__init__` is compiled, which takes 0.2 ms, once a class has had a few instances. Fields, `replace`, `asdict`,
pickling and errors work as in the standard library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:
    import dataclasses
    from operator import attrgetter
    from reprlib import recursive_repr

    _MISSING = dataclasses.MISSING
    _FEW = 8
    """Number of objects of a class to create by setting their fields one by one; for so few, this is faster
    than compiling `__init__`."""

    def dataclass(cls=None, /, *, frozen=False, repr=True, eq=True, slots=False, kw_only=False):
        """Turn a class into a dataclass.

        This accepts only the arguments of the standard decorator that kbsync uses.
        """

        def make(cls):
            written = set(vars(cls))
            cls.__doc__ = cls.__doc__ or cls.__name__  # otherwise `dataclass` looks for a signature
            built = dataclasses.dataclass(cls, init=False, repr=False, eq=False, slots=slots, kw_only=kw_only)
            methods = {"__init__": _compiling_init(built, frozen)}
            if repr:
                methods["__repr__"] = _repr
            if eq:
                compared = [field.name for field in dataclasses.fields(built) if field.compare]
                values = attrgetter(*compared) if compared else type
                methods |= {"__eq__": _eq(values), "__hash__": _hash(values) if frozen else None}
            if frozen:
                methods |= {"__setattr__": _refuse_to_assign, "__delattr__": _refuse_to_delete}
            if frozen and slots:
                methods |= {"__getstate__": _get_state, "__setstate__": _set_state}
            for name in methods.keys() - written:
                setattr(built, name, methods[name])
            return built

        return make if cls is None else make(cls)

    def _compiling_init(cls, frozen):
        """Return an `__init__` that replaces itself with a compiled one after a few objects have been
        created.
        """
        count = 0

        def __init__(self, /, *args, **kwargs):
            nonlocal count
            count += 1
            if count > _FEW or not _assign(self, cls, args, kwargs):
                init = cls.__init__ = _compile_init(cls, frozen)
                init(self, *args, **kwargs)

        return __init__

    def _assign(self, cls, args, kwargs):
        """Do what the compiled `__init__` does.

        Return False for arguments that don't fit, so that the compiled `__init__` raises the error.
        """
        fields = dataclasses.fields(cls)
        positional = [field.name for field in fields if field.init and not field.kw_only]
        values = dict(zip(positional, args))  # noqa: B905 - fewer arguments than fields are usual
        if len(args) > len(positional) or values.keys() & kwargs:
            return False
        values |= kwargs
        for field in fields:
            if field.init and field.name in values:
                value = values.pop(field.name)
            elif field.default_factory is not _MISSING:
                value = field.default_factory()
            elif field.default is not _MISSING:
                value = field.default
            elif field.init:
                return False
            else:
                continue
            object.__setattr__(self, field.name, value)
        if values:
            return False
        if hasattr(cls, "__post_init__"):
            self.__post_init__()
        return True

    def _compile_init(cls, frozen):
        known = {"_set": object.__setattr__, "_missing": _MISSING}
        positional, keywords, lines = [], [], []
        for field in dataclasses.fields(cls):
            name, has_factory = field.name, field.default_factory is not _MISSING
            has_default = has_factory or field.default is not _MISSING
            known |= {f"_default_{name}": field.default, f"_make_{name}": field.default_factory}
            if field.init:
                parameter = f"{name}=_default_{name}" if has_default else name
                (keywords if field.kw_only else positional).append(parameter)
                value = f"_make_{name}() if {name} is _missing else {name}" if has_factory else name
            elif has_default:
                value = f"_make_{name}()" if has_factory else f"_default_{name}"
            else:
                continue
            lines.append(f" _set(self, {name!r}, {value})" if frozen else f" self.{name} = {value}")
        if hasattr(cls, "__post_init__"):
            lines.append(" self.__post_init__()")
        parameters = ", ".join(["self", *positional, *(["*", *keywords] if keywords else [])])
        exec("\n".join([f"def __init__({parameters}):", *(lines or [" pass"])]), known)  # noqa: S102
        init = known["__init__"]
        init.__module__, init.__qualname__ = cls.__module__, f"{cls.__qualname__}.__init__"
        return init

    @recursive_repr()
    def _repr(self):
        names = (field.name for field in dataclasses.fields(self) if field.repr)
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    def _eq(values):
        def __eq__(self, other):
            return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

        return __eq__

    def _hash(values):
        def __hash__(self):
            return hash(values(self))

        return __hash__

    def _refuse_to_assign(self, name, value):
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def _refuse_to_delete(self, name):
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    def _get_state(self):
        return [getattr(self, field.name) for field in dataclasses.fields(self)]

    def _set_state(self, state):
        for field, value in zip(dataclasses.fields(self), state, strict=True):
            object.__setattr__(self, field.name, value)
