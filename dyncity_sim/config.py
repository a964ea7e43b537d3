"""Configuration: frozen dataclasses are the schema, YAML files hold values, ``key=value`` overrides them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError
from yaml import YAMLError

from dyncity_sim.errors import ConfigError

Schema = TypeVar("Schema")


def load_config(schema: type[Schema], file: Path | None, overrides: Sequence[str] = ()) -> Schema:
    """Build ``schema`` from its defaults, then ``file``, then ``overrides`` (``section.key=value``).

    Raises:
        ConfigError: the file is missing or not YAML, a key is unknown, or a value has the wrong type.
    """
    config = OmegaConf.structured(schema)
    if file is not None:
        if not file.is_file():
            raise ConfigError("config", str(file), "a YAML file that exists")
        config = _merge(config, lambda: OmegaConf.load(file), str(file))
    return _built(_overridden(config, overrides), schema)


def overridden(config: Schema, overrides: Sequence[str]) -> Schema:
    """A configuration with some of its values changed, ``key=value``.

    Raises:
        ConfigError: a key is unknown, or a value has the wrong type.
    """
    return _built(_overridden(OmegaConf.structured(config), overrides), type(config))


def parse_config(schema: type[Schema], values: Any, source: str) -> Schema:
    """Build ``schema`` from its defaults, then ``values``, one part of a file; ``source`` says which, in errors.

    Raises:
        ConfigError: a key is unknown, or a value has the wrong type.
    """
    if not isinstance(values, dict):
        raise ConfigError(source, repr(values), "keys and values")
    return _built(_merge(OmegaConf.structured(schema), lambda: OmegaConf.create(values), source), schema)


def load_variant(
    key: str, schemas: Mapping[str, type[Schema]], file: Path | None, overrides: Sequence[str] = ()
) -> Schema:
    """Build one of several schemas, the one that the value of ``key`` names; the first where nothing does.

    Every schema has ``key`` among its own.

    Raises:
        ConfigError: the value names none of them; and as ``load_config``.
    """
    named = [word.partition("=")[2] for word in overrides if word.startswith(f"{key}=")]
    if not named and file is not None and file.is_file():
        named = [str(found) for found in [_top_level(file, key)] if found is not None]
    name = named[-1] if named else next(iter(schemas))
    if name not in schemas:
        raise ConfigError(key, repr(name), f"one of {', '.join(schemas)}")
    return load_config(schemas[name], file, overrides)


def save_config(config: object, file: Path) -> None:
    """Write a resolved configuration as YAML."""
    file.write_text(OmegaConf.to_yaml(OmegaConf.structured(config)), encoding="utf-8")


def _built(config: Any, schema: type[Schema]) -> Schema:
    try:
        built = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise ConfigError(error.full_key or "config", error.msg or str(error), "a complete configuration") from error
    assert isinstance(built, schema)
    return built


def _overridden(config: Any, overrides: Sequence[str]) -> Any:
    for override in overrides:
        if "=" not in override:
            raise ConfigError("config override", repr(override), "key=value")
        config = _merge(config, lambda o=override: OmegaConf.from_dotlist([o]), repr(override))
    return config


def _merge(config: Any, load: Any, source: str) -> Any:
    try:
        return OmegaConf.merge(config, load())
    except ValidationError as error:
        got = f"{str(error.msg or error).splitlines()[0]} (in {source})"
        mend = "Lists are written [A,B]." if "ListConfig" in got else ""
        raise ConfigError(error.full_key or source, got, "a value of the key's type", mend) from error
    except OmegaConfBaseException as error:
        known = ", ".join(sorted(str(k) for k in config)) if config is not None else ""
        raise ConfigError(
            error.full_key or source, f"{str(error.msg or error).splitlines()[0]} (in {source})", f"keys among {known}"
        ) from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError("config", f"{source}: {error}", "valid YAML") from error
    except (OSError, TypeError) as error:
        # OmegaConf's words where a list or a single value stands in the place of keys and values, or the reverse.
        raise ConfigError("config", f"{source}: {error}", "keys with values of their types") from error


def _top_level(file: Path, key: str) -> object:
    try:
        return OmegaConf.select(OmegaConf.load(file), key)
    except (OmegaConfBaseException, YAMLError, UnicodeDecodeError, OSError, TypeError) as error:
        raise ConfigError("config", f"{file}: {error}", "valid YAML") from error
