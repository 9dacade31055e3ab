‰NC1

#Eg‰«Íï<è›HƒTILEabccý0