"""Weighted nearest neighbours against scikit-learn, and their memory."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from mmebm.evaluation import knn_predict, nearest, vote


@pytest.fixture(scope='module')
def data():
    """Five overlapping classes; continuous draws, so that no two similarities tie."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(5, 8, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 5, (301,), generator=generator)
    noise = torch.randn(301, 8, generator=generator, dtype=torch.float64)
    features = (centres[labels] + 1.5 * noise) * torch.rand(301, 1, generator=generator).double()
    return features[:201], labels[:201], features[201:]


@pytest.mark.parametrize(
    ('k', 'temperature', 'chunk'),
    [(1, 0.07, 64), (5, 0.07, 201), (20, 0.07, 7), (20, 1.0, 64), (20, 1.0, 4096)],
)
def test_agrees_with_scikit_learn(data, k, temperature, chunk):
    features, labels, queries = data
    reference = KNeighborsClassifier(
        n_neighbors=k,
        metric='cosine',
        algorithm='brute',
        weights=lambda distance: np.exp((1 - distance) / temperature),
    ).fit(features.numpy(), labels.numpy())
    expected = reference.predict(queries.numpy())
    predicted = knn_predict(features, labels, queries, k, temperature, 5, chunk)
    assert (predicted.numpy() == expected).all()
    assert len(set(predicted.tolist())) == 5  # not the same answer for all

    distances, order = reference.kneighbors(queries.numpy())
    similarities, indices = nearest(features, queries, k, chunk)
    assert (indices.numpy() == order).all()
    np.testing.assert_allclose(similarities.numpy(), 1 - distances, atol=1e-12)

    scores = vote(similarities, labels[indices], temperature, 5)
    shares = scores / scores.sum(1, keepdim=True)
    np.testing.assert_allclose(shares.numpy(), reference.predict_proba(queries.numpy()), atol=1e-12)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(k=0), 'k must lie in 1..N = 201, got 0'),
        (dict(k=202), 'k must lie in 1..N = 201, got 202'),
        (dict(temperature=0.0), 'temperature must be > 0, got 0.0'),
        (dict(num_classes=4), 'labels must lie in 0..3 .*, got 0..4'),
        (dict(queries=torch.zeros(3, 7)), r'queries \(M, D\), got \(201, 8\) and \(3, 7\)'),
        (dict(queries=torch.full((3, 8), torch.nan)), 'not finite'),
        (dict(features=torch.full((201, 8), torch.nan)), 'not finite'),
    ],
)
def test_impossible_input_is_refused(data, change, message):
    options = dict(zip(('features', 'labels', 'queries'), data, strict=True)) | change
    with pytest.raises(ValueError, match=message):
        knn_predict(**options)
