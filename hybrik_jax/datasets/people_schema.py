"""The schema of people's own data: its fields, its joint maps, and what is said of what does not keep to it.

docs/datasets.md, "Your own data", shows a whole file. Pixels have their centres at integers; camera frame x
right, y down, z forward, metres.
"""

import dataclasses
import itertools
import re
import reprlib
import typing
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from hybrik_jax.body import skeleton
from hybrik_jax.json_file import NO_CHARACTER

SPLITS = ('train', 'validation', 'test')
FORMAT = 'hybrik_jax people 1'
JOINT_NAMES = skeleton.JOINT_NAMES + skeleton.LEAF_NAMES
_H36M = 'h36m:'
_BRIEF = reprlib.Repr()
_BRIEF.maxlevel, _BRIEF.maxstring, _BRIEF.maxother = 2, 80, 80


def shown(value: Any) -> str:
    """Returns a value for a message: on one line, shortened."""
    return 'null or NaN' if value is None else _BRIEF.repr(value)


# ---- fields


def _writable(text: str) -> str:
    if NO_CHARACTER in text or '\0' in text:
        raise ValueError('it holds a zero or half of a surrogate pair and cannot be encoded')
    return text


def _in_rows(pose: Any) -> Any:
    flat = isinstance(pose, list) and len(pose) == 72 and not any(isinstance(x, list) for x in pose)
    return [pose[k : k + 3] for k in range(0, 72, 3)] if flat else pose


def _list(kind: Any, count: int) -> Any:
    """Returns the type of a list of exactly so many elements."""
    return Annotated[list[kind], Field(min_length=count, max_length=count)]


Text = Annotated[str, Field(max_length=1000), AfterValidator(_writable)]
Name = Annotated[Text, Field(min_length=1)]
Number = Annotated[float, Field(ge=-1e9, le=1e9)]
Pixels = Annotated[float, Field(ge=-1e5, le=1e5)]
Angle = Annotated[float, Field(ge=-13, le=13)]
Shape = Annotated[float, Field(ge=-20, le=20)]
Index = Annotated[int, Field(ge=0, le=100_000)]
Enlargement = Annotated[float, Field(ge=0.1, le=10, description='1.25, or 1.0 where boxes have a margin')]
Root = Annotated[_list(Number, 3), Field(description='the pelvis in the camera frame, metres')]


class Part(BaseModel):
    """An object of the file; fields that are not known are wrong, so that a misspelt one is noticed."""

    model_config = ConfigDict(strict=True, extra='forbid', allow_inf_nan=False)


class Keypoints(Part):
    """Points on the photo."""

    skeleton: Text
    points: list[_list(Number, 3)] = Field(max_length=10_000, description='x, y, v')


class Joints(Part):
    """Points in space."""

    skeleton: Text
    frame: Literal['camera'] = Field(description='x right, y down, z forward')
    points_m: list[_list(Number, 3) | None] = Field(
        max_length=10_000, description='x, y, z in metres, or null'
    )
    root: Root = []


class Smpl(Part):
    """Pose and shape."""

    pose: Annotated[_list(_list(Angle, 3), 24), BeforeValidator(_in_rows)] = Field(
        description='axis-angle vectors in radians, not degrees; row 0 from model axes to camera axes'
    )
    betas: _list(Shape, 10)
    root: Root = []


class Camera(Part):
    """Without lens distortion."""

    focal: _list(Number, 2) = Field(description='pixels, not millimetres')
    centre: _list(Number, 2) = Field(description='pixels')


class Person(Part):
    """One entry of `people`; empty or zero is what is left out."""

    photo: Name
    box: _list(Pixels, 4) = Field(description='x, y, width, height in pixels')
    photo_size: Annotated[_list(Annotated[Index, Field(ge=1)], 2), Field(description='width, height')] = []
    box_enlargement: Enlargement = 0
    keypoints_2d: Keypoints | None = None
    joints_3d: Joints | None = None
    smpl: Smpl | None = None
    camera: Camera | None = None
    name: Text = ''
    sequence: Text = ''
    action: Text = ''
    split: Literal[SPLITS] | None = None
    extra: Any = None


class Coco(Part):
    """Where people are in place of `people`, and how its categories that are people are called."""

    file: Name
    skeleton: Text
    categories: list[Text] = ['person']


class Header(Part):
    """The fields of the file itself."""

    format: Text
    photos_root: Text = ''
    box_enlargement: Enlargement = 1.25
    skeletons: dict[Text, dict[Text, Index]] = {}
    coco: Coco | None = None


class CocoCategory(BaseModel):
    """One of the `categories` of a file of COCO's form."""

    model_config = ConfigDict(strict=True)
    id: int
    name: Text
    keypoints: list[Text] = []


def parsed(model: type[BaseModel], value: Any) -> tuple[Any, list[tuple[str, str]]]:
    """Returns a value as a model, or None and (field, message) of its faults, those alike together."""
    try:
        return model.model_validate(value), []
    except ValidationError as error:
        faults = error.errors(include_url=False)
    alike: dict[tuple[str, str], list[str]] = {}
    for fault in faults:
        kind, found, limits = fault['type'], shown(fault['input']), fault.get('ctx', {})
        names = list(itertools.takewhile(lambda part: isinstance(part, str), fault['loc']))
        place = ''.join(f'[{part}]' for part in fault['loc'][len(names) :])
        fields, hint = _described(model, names)
        if kind == 'missing':
            message = 'is missing'
        elif kind == 'extra_forbidden':
            message = f'no such field; there are {fields}'
        elif kind == 'model_type':
            message = f'is {found}, must be an object with {fields}'
        elif kind in ('too_short', 'too_long'):
            wanted = limits.get('min_length', limits.get('max_length'))
            message = f'has {limits["actual_length"]} elements, must have {wanted}{hint}'
        else:
            text = re.sub(r'^\w+ should', 'must', fault['msg'].removeprefix('Value error, '))
            text = text.replace('valid number', 'finite number').replace('a valid dictionary', 'an object')
            message = f'is {found}, {text}{hint}'
        alike.setdefault(('.'.join(names), kind), []).append(f'{place} {message}'.strip())
    return None, [
        (field, found[0] + (f' ({len(found)} such)' if len(found) > 1 else ''))
        for (field, _), found in alike.items()
    ]


def _described(model: type[BaseModel], names: Sequence[str]) -> tuple[str, str]:
    """Returns the fields of the part that names lead to, and the description of the last name."""
    hint = ''
    for name in names:
        field = model.model_fields.get(name)
        if field is None:
            break
        hint = f' ({field.description})' if field.description else ''
        kinds = (field.annotation, *typing.get_args(field.annotation))
        model = next(
            (kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), model
        )
    return ', '.join(sorted(model.model_fields)), hint


# ---- joint maps


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """Which point of a skeleton is which joint of ours.

    count: points of a person, None where unknown. joints: one of the 29 joints -> point. h36m: one of the 17
    Human3.6M joints -> point.
    """

    count: int | None
    joints: dict[int, int]
    h36m: dict[int, int]

    @property
    def used(self) -> list[int]:
        """Returns the points that are joints of ours, in order."""
        return sorted({*self.joints.values(), *self.h36m.values()})


SKELETONS = {
    'smpl24': Skeleton(24, {k: k for k in range(24)}, {}),
    'smpl29': Skeleton(29, {k: k for k in range(29)}, {}),
    'h36m17': Skeleton(17, skeleton.H36M_OF_SMPL, {k: k for k in range(17)}),
    'coco17': Skeleton(17, skeleton.COCO_OF_SMPL, {}),
    'mpi28': Skeleton(
        len(skeleton.MPI_NAMES),
        skeleton.MPI_OF_SMPL,
        {k: skeleton.MPI_OF_MPI_TEST[j] for k, j in enumerate(skeleton.MPI_TEST_OF_H36M)},
    ),
}


def own_skeleton(name: str, joint_map: dict[str, int]) -> tuple[Skeleton, list[tuple[str, str]]]:
    """Returns the skeleton of a joint map, and (field, message) of what is wrong with it."""
    faults = []
    if name in SKELETONS:
        faults.append((name, f'is the name of a known skeleton ({", ".join(SKELETONS)}): choose another'))
    count = joint_map.get('count')
    tables: dict[tuple[str, ...], dict[int, str]] = {JOINT_NAMES: {}, skeleton.H36M_NAMES: {}}
    for key in sorted(joint_map.keys() - {'count'}):
        names = skeleton.H36M_NAMES if key.startswith(_H36M) else JOINT_NAMES
        plain = key.removeprefix(_H36M)
        joint = int(plain) if re.fullmatch('[0-9]{1,2}', plain) else [*names, plain].index(plain)
        if joint >= len(names):
            faults.append((f'{name}.{key}', f'is none of our joints: {", ".join(names)}, or their numbers'))
        elif count is not None and joint_map[key] >= count:
            faults.append((f'{name}.{key}', f'is {joint_map[key]}, must be below count, {count}'))
        elif (other := tables[names].setdefault(joint, key)) != key:
            faults.append((f'{name}.{key}', f'is the joint {names[joint]!r}, and so is {other!r}: keep one'))
    joints, h36m = ({joint: joint_map[key] for joint, key in table.items()} for table in tables.values())
    if not joints and not h36m and not faults:
        faults.append((name, 'names no joint'))
    return Skeleton(count, joints, h36m), faults


_LIMBS = 'shoulder|elbow|wrist|hip|knee|ankle'
_SAID = re.compile(
    rf'(l|left|r|right)?({_LIMBS}|eye|ear|nose|head|neck|pelvis|foot|heel|hand)(l|left|r|right)?'
)


def contradiction(kind: Skeleton, names: Sequence[str]) -> str:
    """Returns where a file's names of its points contradict a skeleton in sides or limbs, or ''."""
    if len(names) <= max(kind.used) or kind.count not in (None, len(names)):
        wanted = max(kind.used) + 1 if kind.count is None else kind.count
        return f'there are {len(names)} names, the skeleton has {wanted} points'
    for ours, table in ((JOINT_NAMES, kind.joints), (skeleton.H36M_NAMES, kind.h36m)):
        for joint, index in table.items():
            (side, part), (other_side, other) = _side_and_part(ours[joint]), _side_and_part(names[index])
            if {side, other_side} == {'l', 'r'} or part in _LIMBS.split('|') and other not in ('', part):
                return f'point {index} is {shown(names[index])}, and {ours[joint]!r} in the skeleton'
    return ''


def _side_and_part(name: str) -> tuple[str, str]:
    """What a joint's name says: 'l', 'r' or '' of its side, and one of the parts above or ''."""
    letters = re.sub('[^a-z]', '', name.lower())
    if found := _SAID.fullmatch(letters):
        return (found[1] or found[3] or '')[:1], found[2]
    return next((side[0] for side in ('left', 'right') if letters.startswith(side)), ''), ''
