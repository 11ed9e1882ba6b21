"""Configuration files, by group; this file lets `hydra.searchpath=[pkg://my_package.conf]` find them."""
