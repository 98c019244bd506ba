"""Mutation testing: is each small fault that is put into hbtd noticed by a test?"""
