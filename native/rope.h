// The angles of rotary embeddings, in double precision and with the same bits on every machine.
#pragma once

#include <cstdint>

namespace camelid {

// cosines, sines: (tokens, frequencies) = cos, sin(position * frequency) * amplitude, rounded once to float32. |angle| < 2^20.
void rope_table(const int32_t* positions, int64_t tokens, const double* frequencies, int64_t num_frequencies, double amplitude,
                float* cosines, float* sines);

}  // namespace camelid
