// Which instruction sets this build has and this processor runs.
#pragma once

#include <string>
#include <vector>

#include "encode.h"
#include "ops.h"

namespace camelid {

// The names of the instruction sets that can run here, slowest first.
std::vector<std::string> available_isas();

// The names of all that this build has kernels for.
std::vector<std::string> built_isas();

// The kernels of that name, or null if it is unknown here or the processor (or system) does not run it.
const Kernels* find_kernels(const std::string& name);

// The encoder that goes with such kernels.
Encode find_encode(const Kernels& kernels);

}  // namespace camelid
