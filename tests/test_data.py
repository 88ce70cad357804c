"""The shipped data are what their cards say, and damage to them is noticed."""

import gzip
import pickle

import numpy as np
import pytest

from distill_lib import data


@pytest.fixture(scope="module")
def fashion():
    return data.load_fashion_mnist()


@pytest.fixture
def damaged(tmp_path, monkeypatch):
    """A copy of the assets with one byte of the diamonds changed."""
    raw = bytearray((data.ASSETS / "diamonds.npz").read_bytes())
    raw[len(raw) // 2] ^= 1
    (tmp_path / "diamonds.npz").write_bytes(raw)
    (tmp_path / "SHA256SUMS").write_text((data.ASSETS / "SHA256SUMS").read_text())
    monkeypatch.setattr(data, "ASSETS", tmp_path)
    return tmp_path


def test_every_recorded_file_is_intact():
    for line in (data.ASSETS / "SHA256SUMS").read_text().splitlines():
        name = line.split()[1]
        assert data.asset(name) == data.ASSETS / name


def test_every_shipped_file_is_recorded():
    recorded = (data.ASSETS / "SHA256SUMS").read_text()
    binary = [p.name for p in data.ASSETS.iterdir() if p.suffix in {".npz", ".keras"}]
    assert [name for name in binary if name not in recorded] == []


def test_a_damaged_file_is_named_together_with_the_remedy(damaged):
    with pytest.raises(ValueError, match=r"diamonds\.npz is damaged.*git checkout") as error:
        data.load_diamonds()
    assert "distill_lib/assets/diamonds.npz" in str(error.value)


def test_a_missing_file_is_named_together_with_the_remedy(damaged):
    (damaged / "diamonds.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"diamonds\.npz is missing.*git checkout"):
        data.load_diamonds()


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"name must be one of .*got 'nothing'"):
        data.asset("nothing")


def test_fashion_mnist_has_the_shapes_types_and_range_of_its_card(fashion):
    shapes = [part.shape for part in fashion]
    images, counts = [(12000, 28, 28, 1), (2000, 28, 28, 1)], [(12000,), (2000,), (10000,)]
    assert shapes[::2] == [*images, (10000, 28, 28, 1)]
    assert shapes[1::2] == counts
    assert {part.dtype.name for part in fashion[::2]} == {"float32"}
    assert {part.dtype.name for part in fashion[1::2]} == {"int64"}
    assert all(part.min() == 0 and part.max() == 1 for part in fashion[::2])


def test_fashion_mnist_has_each_class_equally_often(fashion):
    for labels, per_class in ((1, 1200), (3, 200), (5, 1000)):
        assert np.bincount(fashion[labels]).tolist() == [per_class] * 10


def test_fashion_mnist_trains_and_validates_on_different_images():
    with np.load(data.asset("fashion_mnist.npz"), allow_pickle=False) as arrays:
        rows = np.concatenate([arrays["train_index"], arrays["validation_index"]])
    assert len(np.unique(rows)) == 14000


@pytest.mark.skipif(not data.DEBIAN_FASHION_MNIST.exists(), reason="Debian's files are absent")
def test_the_shipped_images_are_among_the_full_ones_on_the_same_side(fashion):
    full = data.load_fashion_mnist(full=True)
    assert [len(part) for part in full[1::2]] == [55000, 5000, 10000]
    np.testing.assert_array_equal(full.x_test, fashion.x_test)
    for side in ("train", "validation"):
        pairs = zip(getattr(full, f"x_{side}"), getattr(full, f"y_{side}"), strict=True)
        label_of = {image.tobytes(): label for image, label in pairs}
        found = [label_of.get(image.tobytes(), -1) for image in getattr(fashion, f"x_{side}")]
        np.testing.assert_array_equal(found, getattr(fashion, f"y_{side}"))


def test_the_full_set_is_read_from_files_in_the_form_of_debians(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6000, 2, 3), "uint8")
    labels = np.arange(6000, dtype="uint8") % 10
    for part, count in (("train", 6000), ("t10k", 20)):
        for kind, array in (("images-idx3", images[:count]), ("labels-idx1", labels[:count])):
            sizes = np.array(array.shape, ">i4").tobytes()
            raw = bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()
            (tmp_path / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(raw))
    monkeypatch.setattr(data, "DEBIAN_FASHION_MNIST", tmp_path)
    with pytest.raises(ValueError, match="full needs Fashion-MNIST, got another data set"):
        data.load_fashion_mnist(full=True)
    shipped = [None] * 4 + [images[:20], labels[:20]]
    monkeypatch.setattr(data, "_shipped", lambda name: shipped)
    full = data.load_fashion_mnist(full=True)
    train, validation = data.split_fashion_mnist(labels)
    assert (len(train), len(validation)) == (1000, 5000)
    np.testing.assert_array_equal(full.x_train[..., 0] * 255, images[train])
    np.testing.assert_array_equal(full.y_train, labels[train])
    np.testing.assert_array_equal(full.x_validation[..., 0] * 255, images[validation])
    np.testing.assert_array_equal(full.y_validation, labels[validation])
    np.testing.assert_array_equal(full.x_test[..., 0] * 255, images[:20])
    np.testing.assert_array_equal(full.y_test, labels[:20])


def test_the_recorded_split_is_stratified_disjoint_and_always_the_same():
    labels = np.arange(60000) % 10
    train, validation = data.split_fashion_mnist(labels)
    assert np.bincount(labels[validation]).tolist() == [500] * 10
    assert sorted([*train, *validation]) == list(range(60000))
    again = data.split_fashion_mnist(labels)
    assert np.array_equal(train, again[0])
    assert np.array_equal(validation, again[1])


def test_diamonds_are_standardised_by_the_training_part():
    diamonds = data.load_diamonds()
    assert [part.shape for part in diamonds[::2]] == [(8000, 9), (2000, 9), (5000, 9)]
    assert [part.shape for part in diamonds[1::2]] == [(8000,), (2000,), (5000,)]
    assert {part.dtype.name for part in diamonds} == {"float32"}
    np.testing.assert_allclose(diamonds.x_train.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(diamonds.x_train.std(axis=0), 1, atol=1e-4)
    assert abs(diamonds.x_test.mean(axis=0)).max() > 1e-4
    # ggplot2's prices run from 326 to 18,823 US dollars.
    prices = np.exp(np.concatenate(diamonds[1::2]))
    assert prices.min() >= 325.9
    assert prices.max() <= 18824


def test_digits_are_split_by_class_without_overlap():
    digits = data.load_digits()
    assert [part.shape for part in digits[::2]] == [(1000, 64), (297, 64), (500, 64)]
    assert all(part.dtype.name == "float32" and part.max() == 1 for part in digits[::2])
    shares = [np.bincount(labels) / len(labels) for labels in digits[1::2]]
    np.testing.assert_allclose(shares, [shares[0]] * 3, atol=0.005)
    images = [image.tobytes() for part in digits[::2] for image in part]
    assert len(set(images)) == len(images)


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("a loader unpickled something")

    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    data.load_fashion_mnist()
    data.load_diamonds()
    path = tmp_path / "objects.npz"
    np.savez(path, **dict.fromkeys(data.Splits._fields, np.array([{}], dtype=object)))
    monkeypatch.setattr(data, "asset", lambda name: path)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        data.load_diamonds()


def test_an_idx_file_of_another_type_is_refused(tmp_path):
    path = tmp_path / "floats.gz"
    path.write_bytes(gzip.compress(b"\x00\x00\x0d\x01\x00\x00\x00\x01\x00\x00\x00\x00"))
    with pytest.raises(ValueError, match=r"unsigned bytes, got .*floats\.gz"):
        data._read_idx(path)
