// Every adaptive context and mixer by name, numbered as specs/dct.md, section 3, lists them.
//
//   contexts::SIG_A(state, is_chroma, size, far, near)   an index of Model::contexts
//   mixers::SIG(state, is_chroma, size)                  an index of Model::mixers
//
// A bin with the contexts X_A, X_B, X_C mixes the three. `size` is log2 of the block's side less that of the least.

#pragma once

#include "probability.hpp"

namespace ncodec::dct {

// Numbers from `first` on, one for each tuple of indices below `Sizes`, the last index fastest.
template <int... Sizes>
struct Numbers {
  int first;

  template <class... Index>
  constexpr int operator()(Index... index) const {
    static_assert(sizeof...(Index) == sizeof...(Sizes));
    int offset = 0;
    ((offset = offset * Sizes + index), ...);
    return first + offset;
  }
  constexpr int end() const { return first + (Sizes * ... * 1); }
};

// How far apart the numbers are whose index `position` differs by 1.
template <int... Sizes>
constexpr int step_of(Numbers<Sizes...>, int position) {
  int step = 1, i = 0;
  ((step *= i++ > position ? Sizes : 1), ...);
  return step;
}

namespace contexts {
constexpr Numbers<4, 2, 5, 6, 8> SIG_A{0};                      // [state][chroma?][size][far][near]
constexpr Numbers<5, 3, 64, 3> SIG_B_LUMA{SIG_A.end()};         // [size][form][place][direction]
constexpr Numbers<5, 3, 64> SIG_B_CHROMA{SIG_B_LUMA.end()};     // [size][form][place]
constexpr Numbers<5, 8, 5, 3> SIG_C_LUMA{SIG_B_CHROMA.end()};   // [size][energy][near][far]
constexpr Numbers<3, 4, 12, 4> SIG_C_CHROMA{SIG_C_LUMA.end()};  // [size][energy][other planes][near]
constexpr Numbers<3, 2, 2, 2, 4, 8> BIG_A{SIG_C_CHROMA.end()};  // [threshold][chroma?][small?][odd state?][far][near]
constexpr Numbers<3, 2, 5, 16> BIG_B{BIG_A.end()};              // [threshold][chroma?][size][place]
constexpr Numbers<3, 2, 8, 4> BIG_C{BIG_B.end()};               // [threshold][chroma?][energy][earlier]
constexpr Numbers<8, 12> UNARY{BIG_C.end()};                    // [near][threshold]
constexpr Numbers<2, 5, 3> GROUP_A{UNARY.end()};                // [chroma?][size][coded neighbours]
constexpr Numbers<2, 5, 16> GROUP_B{GROUP_A.end()};             // [chroma?][size][place]
constexpr Numbers<2, 8, 3> GROUP_C{GROUP_B.end()};              // [chroma?][energy][coded neighbours]
constexpr Numbers<2, 2, 5, 8, 10> LAST_A{GROUP_C.end()};        // [axis][chroma?][side][energy][bin]
constexpr Numbers<2, 3, 6, 6, 10> LAST_B{LAST_A.end()};         // [axis][plane][reach][another][bin]
constexpr Numbers<2, 2, 5, 4, 10> LAST_C{LAST_B.end()};         // [axis][chroma?][size][direction, or of y: x][bin]
constexpr Numbers<8, 4, 3> SPLIT_A{LAST_C.end()};               // [area][binary depth][smaller neighbours]
constexpr Numbers<8, 8> SPLIT_B{SPLIT_A.end()};                 // [area][energy]
constexpr Numbers<8, 5, 5> SPLIT_C{SPLIT_B.end()};              // [area][height of left][width of above]
constexpr Numbers<4, 3> QUAD_A{SPLIT_C.end()};                  // [side from 8 on][smaller neighbours]
constexpr Numbers<4, 8> QUAD_B{QUAD_A.end()};                   // [side][energy]
constexpr Numbers<4, 5, 5> QUAD_C{QUAD_B.end()};                // [side][height of left][width of above]
constexpr Numbers<9, 4> VERTICAL_A{QUAD_C.end()};               // [elongation][binary depth]
constexpr Numbers<5, 5, 5> VERTICAL_B{VERTICAL_A.end()};        // [size][height of left][width of above]
constexpr Numbers<4, 4> VERTICAL_C{VERTICAL_B.end()};           // [kind of mode of left][of above]
constexpr Numbers<2, 4, 5> TERNARY_A{VERTICAL_C.end()};         // [vertical?][binary depth][size]
constexpr Numbers<2, 9> TERNARY_B{TERNARY_A.end()};             // [vertical?][elongation]
constexpr Numbers<2, 8> TERNARY_C{TERNARY_B.end()};             // [vertical?][energy]
constexpr Numbers<8, 3> WHOLE_A{TERNARY_C.end()};               // [area][quarters, halves, thirds]
constexpr Numbers<8, 8> WHOLE_B{WHOLE_A.end()};                 // [area][energy of chroma]
constexpr Numbers<4, 3> WHOLE_C{WHOLE_B.end()};                 // [binary depth][neighbours whose chroma is whole]
constexpr Numbers<3, 5, 3> CODED_A{WHOLE_C.end()};              // [plane][size][coded neighbours]
constexpr Numbers<3, 5, 8> CODED_B{CODED_A.end()};              // [plane][size][energy]
constexpr Numbers<3, 5, 4> CODED_C{CODED_B.end()};              // [plane][size][kind of mode, or planes coded before]
constexpr Numbers<6, 5> LIKELY_A{CODED_C.end()};                // [number][size]
constexpr Numbers<6, 24> LIKELY_B{LIKELY_A.end()};              // [number][votes]
constexpr Numbers<6, 8> LIKELY_C{LIKELY_B.end()};               // [number][energy]
constexpr Numbers<64> REST{LIKELY_C.end()};                     // [node of a tree of 6 bits]
constexpr Numbers<3, 5> CHROMA_A{REST.end()};                   // [number][size]
constexpr Numbers<3, 4> CHROMA_B{CHROMA_A.end()};               // [number][kind of the luma mode]
constexpr Numbers<3, 3> CHROMA_C{CHROMA_B.end()};               // [number][linear neighbours]
constexpr Numbers<2, 8> SINE_A{CHROMA_C.end()};                 // [size from 8 on][energy]
constexpr Numbers<2, 4> SINE_B{SINE_A.end()};                   // [size from 8 on][kind of mode]
constexpr Numbers<3> SINE_C{SINE_B.end()};                      // [neighbours that have it]
constexpr Numbers<2> FILTERED{SINE_C.end()};                    // [chroma?]
constexpr Numbers<8, 3> OFFSET_A{FILTERED.end()};               // [bin][difference of left and above]
constexpr Numbers<8, 3> OFFSET_B{OFFSET_A.end()};               // [bin][sign of the prediction]
constexpr Numbers<8, 2> OFFSET_C{OFFSET_B.end()};               // [bin][larger than a group?]
constexpr Numbers<> NETWORK{OFFSET_C.end()};
constexpr Numbers<3, 2, 9> SIGN_A{NETWORK.end()};        // [plane][sine?][strength]
constexpr Numbers<5, 4, 9> SIGN_B{SIGN_A.end()};         // [size][sides][strength]
constexpr Numbers<7, 9> SIGN_C{SIGN_B.end()};            // [kind of mode, or Cb's sign][strength]
constexpr Numbers<6, 3> LEARNED_A{SIGN_C.end()};         // [shape][learned neighbours]
constexpr Numbers<6, 8> LEARNED_B{LEARNED_A.end()};      // [shape][energy]
constexpr Numbers<6, 24> LEARNED_C{LEARNED_B.end()};     // [shape][votes of the first likely mode]
constexpr Numbers<6, 16> LEARNED_MODE{LEARNED_C.end()};  // [shape][node of a tree of 3 or 4 bits]
constexpr Numbers<3> WIENER{LEARNED_MODE.end()};         // [plane]
constexpr Numbers<7, 8> WIENER_WEIGHT{WIENER.end()};     // [number][bin]
constexpr int COUNT = WIENER_WEIGHT.end();
}  // namespace contexts

namespace mixers {
constexpr Numbers<4, 2, 5> SIG{0};          // [state][chroma?][size]
constexpr Numbers<3, 2> BIG{SIG.end()};     // [threshold][chroma?]
constexpr Numbers<2> GROUP{BIG.end()};      // [chroma?]
constexpr Numbers<2, 2> LAST{GROUP.end()};  // [axis][chroma?]
constexpr Numbers<> SPLIT{LAST.end()};
constexpr Numbers<> QUAD{SPLIT.end()};
constexpr Numbers<> VERTICAL{QUAD.end()};
constexpr Numbers<> TERNARY{VERTICAL.end()};
constexpr Numbers<> WHOLE{TERNARY.end()};
constexpr Numbers<3> CODED{WHOLE.end()};    // [plane]
constexpr Numbers<6> LIKELY{CODED.end()};   // [number]
constexpr Numbers<3> CHROMA{LIKELY.end()};  // [number]
constexpr Numbers<> SINE{CHROMA.end()};
constexpr Numbers<8> OFFSET{SINE.end()};  // [bin]
constexpr Numbers<3> SIGN{OFFSET.end()};  // [plane]
constexpr Numbers<> LEARNED{SIGN.end()};
constexpr int COUNT = LEARNED.end();
}  // namespace mixers

}  // namespace ncodec::dct
