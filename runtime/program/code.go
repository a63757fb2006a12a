package program

var interpAMD64, interpARM64 []byte
