// The networks of enc_worth.hpp. Written by ncodec/training/dct/splits.py: not to be edited.

#pragma once

#include "enc_worth_network.hpp"

namespace ncodec::dct::worth {

constexpr Networks NETWORKS = {};

}  // namespace ncodec::dct::worth
