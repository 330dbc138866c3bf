"""What a person does with networks, tables and predictors; one public verb a file.

score.py          rank networks by a predictor              export.py     write a module as a verified ONNX file
label.py          train networks, write their labels        deliver.py    write members of a Pareto set as files
fit.py            train a predictor on a table              improve.py    edit a network so that it costs less
fit_tasks.py      train one on the tables of several tasks  calibrate.py  time networks, learn to predict latency
evaluate.py       judge a predictor on labelled networks    quality.py    train a predictor on networks of a search
pseudo_labels.py  label a task from shared heads            labelled.py   what predictors learn from, made of a table
task_heads.py     answer a task from any body's maps
"""
