"""What families of predictors are made of; nothing here knows a family.

encoder.py     views -> vectors                   trunks.py         message passing to choose from
contrastive.py pretraining without labels         fuzzy.py          fuzzy C-means
forest.py      extremely randomised trees         conformal.py      intervals
support.py     what was learnt from               normal_scores.py  labels as normal scores
spread.py      which networks to label
"""
