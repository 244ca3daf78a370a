# make demo   install, predict a photo with the network of the package, draw people, score it on them, train on from it,
#             score and predict again, write runs/demo/report.html with both
# make test   install, style check (ruff), all tests but the slow ones
# make test-page   what needs Node.js: files of people in validators that others wrote, the page of results in a browser
# make test-onnx   networks as ONNX against JAX, in onnxruntime
# make benchmark   times on this machine against docs/benchmark.json, as ratios: says what got slower by over a tenth
# make venv   the environment alone
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(VENV)/bin/pip --disable-pip-version-check --quiet
PHOTO ?= docs/photographer.jpg
BOX ?=
ONE := $(if $(BOX),--box $(BOX))

.PHONY: demo test test-slow test-page test-onnx benchmark venv clean

demo: $(VENV)/installed
	$(PY) -m tools.predict $(PHOTO) $(ONE) --out runs/demo/before/prediction
	@echo "Look at runs/demo/before/prediction/overlay.png; now people are drawn, and it is trained for a few minutes"
	$(PY) -m hybrik_jax.main --config configs/demo.py
	$(PY) -m tools.predict $(PHOTO) $(ONE) --checkpoint runs/demo --out runs/demo/prediction
	$(PY) -m tools.report runs/demo --photo $(PHOTO) $(ONE)
	@echo "Look at runs/demo/report.html"

test: $(VENV)/installed-test
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(PY) -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/installed-test
	$(PY) -m pytest -q -m slow

test-page: $(VENV)/installed
	@command -v npm > /dev/null || { echo "make test-page needs npm: install Node.js 18 or later (nodejs.org)"; exit 1; }
	npm install --prefix tests/page --no-package-lock --no-audit --no-fund --silent
	$(PY) -m tests.page.write_glb runs/page
	node tests/page/validate_glb.mjs runs/page/motion.glb runs/page/frame.glb
	node tests/page/build_three.mjs --check
	$(PY) -m tests.page.write_results runs/page
	node tests/page/check.mjs runs/page

test-onnx: $(VENV)/installed-onnx
	$(PY) -m pytest -q -m onnx

benchmark: $(VENV)/installed
	$(PY) -m tools.benchmark --check docs/benchmark.json

venv: $(VENV)/installed

$(VENV)/installed: requirements.txt
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PIP) install -r requirements.txt
	touch $@

$(VENV)/installed-test: requirements-test.txt $(VENV)/installed
	$(PIP) install -r requirements-test.txt
	touch $@

$(VENV)/installed-onnx: requirements-onnx.txt $(VENV)/installed-test
	$(PIP) install -r requirements-onnx.txt
	touch $@

clean:
	rm -rf $(VENV) .jax_cache .pytest_cache .ruff_cache
