"""The parts that every family is written with: vocabulary, sequences joined from blocks, batches."""

import numpy as np
import pytest

from genlab.errors import UserError
from genlab.spec import Split
from genlab.tasks import Part, Vocab, assemble, hint_names, split_map
from genlab.tasks.drawing import hinted


def test_a_vocabulary_encodes_what_it_decodes():
    vocab = Vocab(["0", "1"])
    assert vocab.decode(vocab.encode("0 1 > 1 <end> <pad>")) == ("0", "1", ">", "1", "<end>", "<pad>")
    assert len(vocab) == 5
    assert "1" in vocab
    assert "2" not in vocab
    with pytest.raises(UserError, match="unknown token '2'"):
        vocab.encode(["2"])
    with pytest.raises(ValueError, match="contain a token twice"):
        Vocab(["0", "0"])
    with pytest.raises(ValueError, match="contain a token twice"):
        Vocab([">"])


def test_blocks_are_joined_and_gaps_closed_up():
    left = Part(np.array([[10, 11, 12], [13, 14, 15]]), keep=np.array([[True] * 3, [False, True, False]]))
    answer = Part(np.array([[20, 21], [22, 23]]), scored=True, keep=np.array([[True, False], [True, True]]))
    x = assemble([left, Part(Vocab.sep), answer, Part(Vocab.end, scored=True)], lengths=np.array([3, 1]))
    assert x.tokens.tolist() == [[10, 11, 12, 2, 20], [14, 2, 22, 23, 1]]
    assert x.targets.tolist() == [[11, 12, 2, 20, 1], [2, 22, 23, 1, 0]]
    assert x.scored.astype(int).tolist() == [[0, 0, 0, 1, 1], [0, 1, 1, 1, 0]]
    assert [x.prompt_len(row) for row in range(2)] == [4, 2]


def test_rows_of_a_batch_keep_all_their_columns():
    x = assemble(
        [Part(np.arange(12).reshape(4, 3)), Part(Vocab.end, scored=True)], np.arange(4), np.arange(12).reshape(4, 3)
    )
    some = x[[2, 0]]
    assert len(some) == 2
    assert some.tokens.tolist() == [[6, 7, 8], [0, 1, 2]]
    assert some.lengths.tolist() == [2, 0]
    assert some.position_ids is not None
    assert some.position_ids.tolist() == [[6, 7, 8], [0, 1, 2]]
    assert some.values is None


def test_hints_stand_before_their_tokens():
    part = hinted(np.array([[5, 6]]), np.array([[1, 2]]), scored=True, keep=np.array([[True, False]]))
    assert part.ids.tolist() == [[5, 1, 6, 2]]
    assert part.keep.tolist() == [[True, True, False, False]]
    assert part.scored


def test_hint_names_are_never_used_twice():
    names = hint_names(26 + 26**2 + 5)
    assert len(set(names)) == len(names)
    assert names[-6:] == ("zz", "aaa", "aab", "aac", "aad", "aae")


def test_the_first_split_is_the_one_in_distribution():
    splits = split_map(Split(name="id"), Split(name="far"))
    assert list(splits) == ["id", "far"]
    with pytest.raises(ValueError, match="the first split of a task must be 'id'"):
        split_map(Split(name="far"), Split(name="id"))
