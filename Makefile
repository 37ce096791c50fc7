# The two commands of the README, and what maintainers need besides. Any Python of at least settings.ini's min_python will do:
#   make test PYTHON=python3.12
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup data lab test prepare readme docs

help:  ## show this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## (.*)/make \1	\2/' | expand -t 16

setup:  ## install everything into .venv (does nothing when nothing changed)
	@$(PYTHON) tools/install.py

data:  ## look for Fashion-MNIST again, and fetch it if possible
	@$(PYTHON) tools/install.py --data

lab: setup  ## every lab's quick profile, on real data where it is found; a line per lab, one page with all reports
	@$(BIN)/fashion_lab run-all

test: setup  ## everything that CI runs
	@$(BIN)/python -m pytest tests -n auto --dist loadfile

prepare: setup  ## after editing notebooks: export, clean, and renew README.md
	@$(BIN)/nbdev_export
	@$(BIN)/nbdev_clean
	@$(BIN)/python tools/pages.py readme

readme: setup  ## make README.md and its pictures from nbs/index.ipynb
	@$(BIN)/python tools/pages.py readme

docs: setup  ## make the site in _docs; to look at it: .venv/bin/python tools/website.py --serve
	@$(BIN)/python tools/website.py
