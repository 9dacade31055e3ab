‰NC1

#Eg‰«Íï<¥Ï}ÃTILEabccý0