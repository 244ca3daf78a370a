"""Files for other programs: one module for each format."""

from collections.abc import Callable

from hybrik_jax.export import people

# Formats of predicted people: option -> (file name, (path, people, faces, about) -> None).
PEOPLE_FORMATS: dict[str, tuple[str, Callable[..., None]]] = {
    'json': ('prediction.json', people.write_json),
    'npz': ('prediction.npz', people.write_npz),
}
