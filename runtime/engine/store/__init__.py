"""The store of engines built on this machine: requested, built in a subprocess, validated, stored, checked at use."""
