"""What a person does with networks, tables and predictors; one public verb a file.

score.py      rank networks by a predictor
fit.py        train a predictor on a table             quality.py        train one on networks of a search
label.py      train networks, write their labels       pseudo_labels.py  labels of a task from shared heads
calibrate.py  time networks, learn to predict latency  improve.py        edit a network so that it costs less
export.py     a module as a verified ONNX file         deliver.py        members of a Pareto set as files
"""
