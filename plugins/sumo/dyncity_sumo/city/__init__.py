"""The static city around a road network: surfaces, lots, buildings, plants, furniture, as columns."""

from dyncity_sumo.city.build import build_city
from dyncity_sumo.city.kerbside import SHELTER_ROOF_DM
from dyncity_sumo.city.parking import parking_spots

__all__ = ["SHELTER_ROOF_DM", "build_city", "parking_spots"]
