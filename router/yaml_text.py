"""YAML as the configuration wants it: a mapping, safe types only, no key given twice."""

from __future__ import annotations

from typing import Any

import yaml

from router.errors import ConfigError

MERGE_TAG = "tag:yaml.org,2002:merge"
# What PyYAML itself raises on texts such as `!!int x`, `2024-99-99`, a mapping used as a key, or `"\UFFFFFFFF"`.
BROKEN_VALUE = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError)


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, which YAML would silently resolve to the last.

    What a value's constructor refuses is said with its line.
    """

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except BROKEN_VALUE as error:
            line = node.start_mark.line + 1
            raise ConfigError(f"line {line}: not YAML: a value that its type does not allow: {error}") from error


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == MERGE_TAG:
            continue
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise ConfigError(f"line {key_node.start_mark.line + 1}: key '{key}' is given twice")
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def parse_mapping(text: str) -> dict[Any, Any]:
    """The text's mapping. Raises ConfigError for anything else."""
    try:
        data = yaml.load(text, Loader=_Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML: {error}") from error
    except RecursionError:
        raise ConfigError("not usable: nested too deeply") from None
    except BROKEN_VALUE as error:
        raise ConfigError(f"not YAML: a value that its type does not allow: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError("expected a mapping with the keys server, models and routes")
    return data
