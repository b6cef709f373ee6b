#include "siphash.h"

#include <endian.h>
#include <string.h>

struct state {
    uint64_t v0, v1, v2, v3;
    unsigned char pending[8]; /* bytes that do not make a word yet */
    size_t size;              /* of all bytes so far */
};

static inline uint64_t rotate(uint64_t word, int bits)
{
    return word << bits | word >> (64 - bits);
}

static inline void mix(struct state *state)
{
    state->v0 += state->v1, state->v1 = rotate(state->v1, 13) ^ state->v0, state->v0 = rotate(state->v0, 32);
    state->v2 += state->v3, state->v3 = rotate(state->v3, 16) ^ state->v2;
    state->v0 += state->v3, state->v3 = rotate(state->v3, 21) ^ state->v0;
    state->v2 += state->v1, state->v1 = rotate(state->v1, 17) ^ state->v2, state->v2 = rotate(state->v2, 32);
}

static void add_word(struct state *state, uint64_t word)
{
    state->v3 ^= word;
    mix(state);
    mix(state);
    state->v0 ^= word;
}

static uint64_t read_word(const unsigned char *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof(word));
    return le64toh(word);
}

static void add(struct state *state, const unsigned char *bytes, size_t size)
{
    size_t held = state->size % 8;
    state->size += size;
    for (; held > 0 && size > 0; size--) {
        state->pending[held++] = *bytes++;
        if (held == 8) {
            add_word(state, read_word(state->pending));
            held = 0;
        }
    }
    for (; size >= 8; size -= 8, bytes += 8)
        add_word(state, read_word(bytes));
    if (size > 0)
        memcpy(state->pending, bytes, size);
}

uint64_t siphash(const uint64_t key[2], const void *first, size_t first_size, const void *second,
                 size_t second_size)
{
    struct state state = {.v0 = key[0] ^ UINT64_C(0x736f6d6570736575),
                          .v1 = key[1] ^ UINT64_C(0x646f72616e646f6d),
                          .v2 = key[0] ^ UINT64_C(0x6c7967656e657261),
                          .v3 = key[1] ^ UINT64_C(0x7465646279746573)};
    add(&state, first, first_size);
    add(&state, second, second_size);
    uint64_t last = (uint64_t)state.size << 56;
    for (size_t i = 0; i < state.size % 8; i++)
        last |= (uint64_t)state.pending[i] << (8 * i);
    add_word(&state, last);
    state.v2 ^= 0xff;
    for (int i = 0; i < 4; i++)
        mix(&state);
    return state.v0 ^ state.v1 ^ state.v2 ^ state.v3;
}
