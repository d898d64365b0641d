"""The guide's health validator: observe both variants, judge, publish the verdict."""
