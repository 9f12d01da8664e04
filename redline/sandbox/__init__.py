"""Strangers' programs, run where they can harm nothing. Off unless somebody asks for it."""
