"""What families of predictors are made of; nothing here knows a family.

encoder.py       views to vectors                  trunks.py         other messages for the encoder
contrastive.py   pretraining without labels         fuzzy.py          fuzzy C-means
heads.py         small networks by cluster          packing.py        names and modules as arrays
flat_trees.py    trees as arrays that answer        forest.py         extremely randomised trees
boosted.py       gradient-boosted trees             conformal.py      intervals
support.py       what was learnt from               normal_scores.py  labels as normal scores
spread.py        which networks to label            lessons.py        labelled rows as distinct networks
schedule.py      learning rates
"""
