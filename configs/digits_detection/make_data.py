"""Make a small detection set in COCO's format from real handwritten digits.

scikit-learn's digits, 8 x 8 pixels each, are enlarged and put on canvases.
The 1,797 digits are divided among the three parts first, so that no digit of
one part is seen in another.
"""

import json
import os
import os.path as osp
from typing import Dict, List, Optional, Tuple

import cv2
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SIDE = 96  # of a canvas, in pixels
# Number of canvases in each part.
CANVASES = dict(train=1000, few=100, test=200)
Box = Tuple[int, int, int, int]


def make_data(
    root: str, seed: int = 0, canvases: Optional[Dict[str, int]] = None
) -> None:
    """Write images and annotations.

    Args:
        root (str): Folder to write. It will hold, for each part, a folder of
            images and ``<part>.json``. Parts: ``train`` (of 1,197 digits),
            ``few`` (of 100 others) and ``test`` (of 500 others).
        seed (int): Seed of the division and of the canvases.
        canvases (dict[str, int], optional): Number of canvases in each part.
            Defaults to None, which means :data:`CANVASES`.
    """
    images, labels = load_digits(return_X_y=True)
    rest, test = train_test_split(
        np.arange(len(labels)),
        test_size=500,
        random_state=seed,
        stratify=labels,
    )
    train, few = train_test_split(
        rest, test_size=100, random_state=seed, stratify=labels[rest]
    )
    rng = np.random.default_rng(seed)
    digits = images.reshape(-1, 8, 8).astype(np.float32) / 16
    for part, members in dict(train=train, few=few, test=test).items():
        count = (canvases or CANVASES)[part]
        _write(
            osp.join(root, part), digits[members], labels[members], count, rng
        )


def _write(
    folder: str,
    digits: np.ndarray,
    labels: np.ndarray,
    count: int,
    rng: np.random.Generator,
) -> None:
    os.makedirs(folder, exist_ok=True)
    images: List[dict] = []
    annotations: List[dict] = []
    for number in range(count):
        canvas, placed = _canvas(digits, rng)
        name = f'{number:04d}.png'
        cv2.imwrite(osp.join(folder, name), canvas)
        images.append(dict(id=number, file_name=name, width=SIDE, height=SIDE))
        for chosen, (x, y, width, height) in placed:
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=number,
                    category_id=int(labels[chosen]),
                    bbox=[x, y, width, height],
                    area=width * height,
                    iscrowd=0,
                )
            )
    categories = [dict(id=digit, name=str(digit)) for digit in range(10)]
    with open(f'{folder}.json', 'w', encoding='utf-8') as file:
        json.dump(
            dict(
                images=images, annotations=annotations, categories=categories
            ),
            file,
        )


def _canvas(
    digits: np.ndarray, rng: np.random.Generator
) -> Tuple[np.ndarray, List[Tuple[int, Box]]]:
    """One to five digits of 20 to 40 pixels, none over another."""
    canvas = rng.normal(rng.uniform(30, 70), 12, (SIDE, SIDE))
    taken = np.zeros((SIDE, SIDE), dtype=bool)
    placed: List[Tuple[int, Box]] = []
    for _ in range(rng.integers(1, 6)):
        chosen = int(rng.integers(len(digits)))
        side = int(rng.integers(20, 41))
        ink = cv2.resize(
            digits[chosen], (side, side), interpolation=cv2.INTER_LINEAR
        )
        rows, columns = np.nonzero(ink > 0.25)
        ink = ink[
            rows.min() : rows.max() + 1, columns.min() : columns.max() + 1
        ]
        height, width = ink.shape
        x = int(rng.integers(SIDE - width + 1))
        y = int(rng.integers(SIDE - height + 1))
        here = (slice(y, y + height), slice(x, x + width))
        if taken[here].any():
            continue
        taken[here] = True
        canvas[here] += ink * (rng.uniform(140, 255) - canvas[here])
        placed.append((chosen, (x, y, width, height)))
    return canvas.clip(0, 255).astype(np.uint8), placed
