"""Models of Hugging Face's transformers: their description and weights."""

from collections.abc import Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import nn

from .library_stages import SUPPORT_HINT, check_equal, find_stage_lists

INSTALL_HINT = 'install it with "pip install transformers", or "mmdetection-salience[transformers]"'


def import_library() -> ModuleType:
    """Import transformers.

    Returns:
        The module.

    Raises:
        ImportError: It is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise ImportError(f'This backbone needs transformers ({error}); {INSTALL_HINT}') from error
    return transformers


def describe_model(
    config: Mapping[str, Any], source: str | None, out_indices: Sequence[int]
) -> Any:
    """Make the library's configuration of a model with stages.

    Args:
        config: ``model_type`` and settings of the architecture.
        source: Name on the Hugging Face hub, or folder, whose architecture the settings override;
            None: the library's defaults for ``model_type``.
        out_indices: Stages whose maps are returned, from 0.

    Returns:
        The configuration.

    Raises:
        ImportError: transformers is not installed.
        FileNotFoundError: ``source`` can neither be found nor downloaded.
        ValueError: The library has no such model, the model no such setting, stage, or no stages.
    """
    library = import_library()
    auto = library.AutoConfig
    settings = {key: list(x) if isinstance(x, tuple) else x for key, x in config.items()}
    model_type = settings.pop('model_type', None)
    if source is None and model_type not in library.CONFIG_MAPPING:
        raise ValueError(
            f'transformers {library.__version__} has no model_type={model_type!r}, which '
            f'backbone.config asks for; other versions may. {SUPPORT_HINT}'
        )
    make = partial(auto.for_model, model_type)
    if source is not None:
        make = partial(auto.from_pretrained, source, trust_remote_code=False)
    try:
        check_settings(make(), settings)
        described = make(**settings)
    except OSError as error:
        raise missing_weights(source, error) from error
    except Exception as error:  # the library's checks of settings raise errors of their own
        raise ValueError(
            f'transformers has no model {source or model_type!r} with the settings of '
            f'backbone.config: {error}'
        ) from error
    for key, value in list(vars(described).items()):
        if isinstance(value, tuple):  # defaults that some of its models add to lists
            setattr(described, key, list(value))
    check_stages(described, out_indices)
    if hasattr(described, 'out_features'):
        described.out_features = [f'stage{index + 1}' for index in out_indices]
    return described


def missing_weights(source: str | None, error: OSError) -> FileNotFoundError:
    """Describe weights that cannot be had; takes their name and the library's error."""
    return FileNotFoundError(
        f'backbone.pretrained={source!r} can neither be read as a folder nor downloaded from the '
        f'Hugging Face hub ({str(error).strip().splitlines()[0] if str(error) else "no reason"}); '
        'check the name and the network. For weights that are gated, as the DINOv3 ones are, '
        'accept the licence on their page and run "hf auth login"; or download them elsewhere and '
        'give the folder'
    )


def check_settings(defaults: Any, settings: Mapping[str, Any]) -> None:
    """Refuse settings that the library would take and never read.

    Args:
        defaults: The library's configuration of the architecture.
        settings: What the config sets.

    Raises:
        ValueError: A setting does not exist.
    """
    unknown = [key for key in settings if not hasattr(defaults, key)]
    if unknown:
        known = sorted(key for key in vars(defaults) if not key.startswith('_'))
        raise ValueError(f'unknown {", ".join(unknown)}; it has {", ".join(known)}')


def check_stages(described: Any, out_indices: Sequence[int]) -> None:
    """Refuse architectures without stages, before anything large is built, and wrong indices.

    Args:
        described: The library's configuration.
        out_indices: Stages whose maps are returned, from 0.

    Raises:
        ValueError: The model has no stages, or not those.
    """
    depths = getattr(described, 'depths', None)
    if not isinstance(depths, list) or not depths:
        raise ValueError(
            f'model_type={described.model_type!r} of transformers has no stages whose maps halve '
            f'in size. {SUPPORT_HINT}'
        )
    if not out_indices or sorted(set(out_indices) & set(range(len(depths)))) != list(out_indices):
        raise ValueError(
            f'backbone.out_indices={tuple(out_indices)}, but model_type={described.model_type!r} '
            f'has the stages 0 to {len(depths) - 1}; name each once, in this order'
        )


def build_model(described: Any) -> nn.Module:
    """Build a model, as a backbone of the library where it offers one, without weights.

    Args:
        described: The library's configuration.

    Returns:
        The model.

    Raises:
        ImportError: The model needs another library.
        ValueError: The settings do not fit together.
    """
    library = import_library()
    is_backbone = type(described) in library.MODEL_FOR_BACKBONE_MAPPING
    kind = library.AutoBackbone if is_backbone else library.AutoModel
    try:
        model: nn.Module = kind.from_config(described)
    except ImportError:
        raise
    except Exception as error:  # settings that do not fit fail anywhere in the library
        raise ValueError(
            f'transformers cannot build {described.model_type!r} with the settings of '
            f'backbone.config: {type(error).__name__}: {error}'
        ) from error
    return model.to(torch.get_default_dtype())  # not in that of published weights


def load_weights(
    model: Any, config: Mapping[str, Any], source: str, indices: Sequence[int]
) -> None:
    """Load pretrained weights into a model, and check that it computes what theirs computes.

    Args:
        model: The model.
        config: Settings of the architecture, as the model was built with.
        source: Name on the Hugging Face hub, or folder, of weights in the library's format.
        indices: Stages whose maps are returned, from 0.

    Raises:
        FileNotFoundError: The weights can neither be found nor downloaded.
        ValueError: They belong to another architecture.
    """
    described = describe_model(config, source, indices)
    try:
        if type(described) is not type(model.config):
            raise ValueError(f'they are those of model_type={described.model_type!r}')
        theirs, report = type(model).from_pretrained(
            source, config=described, output_loading_info=True
        )
        check_keys(model, report)
        own = model.state_dict()
        weights = {key: value for key, value in theirs.state_dict().items() if key in own}
        model.load_state_dict(weights, strict=False)
        if hasattr(model, 'hidden_states_norms'):
            theirs.hidden_states_norms = model.hidden_states_norms
        check_equal(model, theirs.to(next(model.parameters())), indices)
    except OSError as error:
        raise missing_weights(source, error) from error
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f'backbone.pretrained={source!r} does not fit the architecture of backbone.config '
            f'({error}); copy the settings of its config.json there, or leave model_type out to '
            'take them all'
        ) from error


def check_keys(model: Any, report: Mapping[str, Any]) -> None:
    """Refuse weights that a model lacks, or has no place for in its stages.

    Args:
        model: The model.
        report: The library's, with ``missing_keys`` and ``unexpected_keys``.

    Raises:
        ValueError: There are such weights.
    """
    missing = sorted(key for key in report['missing_keys'] if 'hidden_states_norms' not in key)
    if missing:
        raise ValueError(f'they lack {len(missing)} weights, such as {missing[0]}')
    stages = find_stage_lists(model, len(model.config.depths))[0].rpartition('.')[2]
    left = sorted(key for key in report['unexpected_keys'] if f'.{stages}.' in f'.{key}')
    left = [key for key in left if 'relative_' not in key]  # computed, stored by old versions
    if left:
        raise ValueError(f'they have {len(left)} weights too many, such as {left[0]}')
