"""CARLA behind the simulator port: co-simulation, a player of scenes, and a recorder.

Importing any module of this package loads neither CARLA's client library nor a model; ``world`` loads the former
when it connects.
"""
