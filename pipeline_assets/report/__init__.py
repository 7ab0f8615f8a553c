"""Reports as people and programs read them: words, plots, HTML, JSON.

Belongs here: how numbers are told. Does not: how they come about (`rules`), where pages are kept (`store`), Dagster.
"""
