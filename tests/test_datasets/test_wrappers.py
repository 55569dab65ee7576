from types import SimpleNamespace

from mmebm.datasets import inner_datasets, leaf_datasets


def test_leaves_below_nested_wrappers_in_order():
    a, b, c = object(), object(), object()
    repeated = SimpleNamespace(dataset=SimpleNamespace(datasets=[a, b]))
    assert leaf_datasets(SimpleNamespace(datasets=[repeated, c])) == [a, b, c]
    assert leaf_datasets(a) == [a]
    assert inner_datasets(repeated) == [repeated.dataset]
    assert inner_datasets(a) == []
