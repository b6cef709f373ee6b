# Sourced by the top CMakeLists.txt: what is installed, and where.
#
# Units name programs by absolute paths, so they are made when they are installed: cmake --install --prefix is
# heeded. Everything else is found relative to where it lies.

set(COHAB_UNIT_DIR lib/systemd/system CACHE STRING "Where systemd units go; relative to the prefix, or absolute")
set(COHAB_SYSUSERS_DIR lib/sysusers.d CACHE STRING "Where the file for systemd-sysusers goes")
option(COHAB_SYSTEMD "Install units for systemd" ON)

install(TARGETS cohabd cohabd-reporter cohab RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS echo spell LIBRARY DESTINATION ${COHAB_ENGINE_DIR})
install(FILES include/cohab/engine.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/cohab)
# Manual pages: options and commands in them are what --help says.
function(cohab_add_page program section)
  set(template ${PROJECT_SOURCE_DIR}/packaging/man/${program}.${section}.in)
  set(page ${PROJECT_BINARY_DIR}/man/${program}.${section})
  add_custom_command(OUTPUT ${page}
    COMMAND ${CMAKE_COMMAND} -E make_directory man
    COMMAND ${PROJECT_SOURCE_DIR}/packaging/man/make-page $<TARGET_FILE:${program}> ${template} ${page}
    DEPENDS ${program} ${template} ${PROJECT_SOURCE_DIR}/packaging/man/make-page
    VERBATIM)
  add_custom_target(page_${program} ALL DEPENDS ${page})
  install(FILES ${page} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
endfunction()
cohab_add_page(cohab 1)
cohab_add_page(cohabd 8)

install(FILES README.md CHANGELOG.md LICENSE packaging/spell.conf DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/docs FILES_MATCHING PATTERN "*.md")

file(RELATIVE_PATH COHAB_PC_TO_PREFIX /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
configure_file(packaging/cohab.pc.in cohab.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/cohab.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

if(COHAB_SYSTEMD)
  install(CODE "
    get_filename_component(COHAB_BINDIR \"${CMAKE_INSTALL_BINDIR}\" ABSOLUTE BASE_DIR \"\${CMAKE_INSTALL_PREFIX}\")
    configure_file(\"${PROJECT_SOURCE_DIR}/packaging/systemd/cohab@.service.in\"
                   \"${PROJECT_BINARY_DIR}/cohab@.service\" @ONLY)")
  install(FILES ${PROJECT_BINARY_DIR}/cohab@.service packaging/systemd/cohab@.socket DESTINATION ${COHAB_UNIT_DIR})
  install(FILES packaging/systemd/cohab.sysusers DESTINATION ${COHAB_SYSUSERS_DIR} RENAME cohab.conf)
endif()
