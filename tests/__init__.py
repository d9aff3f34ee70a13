"""Tests of the project. A package, since torch-fidelity installs one called ``tests`` that Ray's workers would find."""
